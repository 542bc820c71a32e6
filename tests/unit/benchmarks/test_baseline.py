"""What the recorded baseline takes for a difference."""

from __future__ import annotations

from pathlib import Path

from benchmarks.baseline import changed, differences, digests, lasting, without_times


def recording(**figures: float) -> dict[str, object]:
    return {
        "machine": "m", "figures": figures,
        "run": "a\nb", "digests": {"fuse/x": ["1"]}, "study": {}, "bad_input": {"t": ["passed"]},
    }  # fmt: skip


def test_recordings_that_are_equal_differ_in_nothing() -> None:
    lines = differences(recording(run=10.0), recording(run=12.9))
    assert [line for line in lines if not line.startswith("|")] == []
    assert lines[-1] == "| run | 10.0 | 12.9 | 1.29 |"


def test_recordings_every_difference_and_every_slow_figure_is_a_line() -> None:
    after = recording(run=13.1) | {"run": "a\nc", "bad_input": {"t": ["failed"], "u": ["passed"]}}
    lines = [x for x in differences(recording(run=10.0), after) if not x.startswith("|")]
    assert lines == [
        'run: 1: "b" -> "c"',
        'bad_input: t 0: "passed" -> "failed"',
        "bad_input: u: only after",
        "run: 1.31 times as much, the most is 1.3",
    ]


def test_changed_lists_of_other_lengths_are_shown_whole() -> None:
    assert list(changed({"a": [1]}, {"a": [1, 2]})) == ["a: [1] -> [1, 2]"]


def test_lasting_keys_seconds_and_homes_are_no_difference() -> None:
    key = "0123456789abcdef01234567"
    text = f'{{"seconds": 1.5, "x": "/tmp/h/store/{key}"}} took 12.3 s'
    assert lasting(text, Path("/tmp/h")) == '{"seconds": "N", "x": "HOME/store/KEY"} took N s'


def test_digests_artifacts_of_a_stage_are_compared_whatever_their_keys(tmp_path: Path) -> None:
    for key, text in (("b" * 24, "one"), ("a" * 24, "two")):
        folder = tmp_path / "store" / "artifacts" / "fuse" / key / "deep"
        folder.mkdir(parents=True)
        (folder / "rows.jsonl").write_text(text)
        (folder.parent / "record.json").write_text(key)
    found = digests(tmp_path / "store" / "artifacts")
    assert list(found) == ["fuse/deep/rows.jsonl"]
    assert len(set(found["fuse/deep/rows.jsonl"])) == 2


def test_without_times_only_what_lasts_is_left() -> None:
    given = {"a": [{"seconds": {"b": 1}, "c": 2}], "created": "today", "train_seconds": 3}
    assert without_times(given) == {"a": [{"c": 2}]}
