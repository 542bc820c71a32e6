from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from raft_core.app.model_lineage import lineage
from raft_core.app.pipeline import STAGES
from raft_core.app.settings import Settings, load_settings


def changed(before: Settings, after: Settings) -> set[str]:
    one, other = lineage(before), lineage(after)
    return {name for name in one if one[name] != other[name]}


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("runtime.parallel_stages=1", set()),
        ("runtime.pools={}", set()),
        ("domain.description=other words", set()),
        ("evaluate.compare.baseline=sdft", set()),
        ("filter.tau=0.7", {"config"}),
        ("engine.max_model_len=256", {"config"}),
        ("promotion.domain_margin=0.1", {"config"}),
        ("lineage.page_rows=100", set()),
        ("engine.model.path=mini:peer", {"base_model"}),
        ("domain.limit=100", {"dataset"}),
        ("domain.data.path=mini:web", {"dataset"}),
    ],
)
def test_lineage_setting_changes_what_it_decides(override: str, names: set[str]) -> None:
    assert changed(load_settings("mini", "law"), load_settings("mini", "law", [override])) == names


def test_lineage_row_is_added_dataset_changes(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text('{"question": "Who?", "answer": "She."}\n')
    before = lineage(load_settings("mini", data=str(data)))
    data.write_text(data.read_text() + '{"question": "When?", "answer": "Now."}\n')
    after = lineage(load_settings("mini", data=str(data)))
    assert [name for name in before if before[name] != after[name]] == ["dataset"]


def test_lineage_file_is_moved_nothing_changes(tmp_path: Path) -> None:
    one, other = tmp_path / "one.jsonl", tmp_path / "other.jsonl"
    for file in (one, other):
        file.write_text('{"question": "Who?", "answer": "She."}\n')
    settings = [load_settings("mini", data=str(file)) for file in (one, other)]
    assert changed(*settings) == set()


def test_lineage_stage_that_only_tells_is_no_part_of_the_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = load_settings("mini", "law")
    before = lineage(settings)["code"]
    monkeypatch.setitem(STAGES, "lineage", replace(STAGES["lineage"], version=99))
    assert lineage(settings)["code"] == before
    monkeypatch.setitem(STAGES, "fuse", replace(STAGES["fuse"], version=99))
    assert lineage(settings)["code"] != before
