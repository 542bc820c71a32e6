"""What is made of the harness's rows: filters, metrics, identities."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raft_core.app.settings import load_settings
from raft_core.config.base import fingerprint
from raft_core.errors import InputError
from raft_core.evaluation.benchmarks.harness import HarnessBenchmark
from raft_core.evaluation.config import RespondStage
from raft_core.evaluation.harness_run import (
    HarnessRow,
    digest_of_rows,
    entries_of,
    is_unsafe,
    judged_rows,
    said_by,
)

BENCHMARK = HarnessBenchmark(task="t")


def row(number: int, strict: int, loose: int, task: str = "t") -> HarnessRow:
    filtered = {
        "strict": {"response": "4", "metrics": {"length": 12, "exact": strict}},
        "loose": {"response": "5", "metrics": {"exact": loose}},
    }
    return HarnessRow("b", task, f"{task}/{number}", "p", "r", [["raw"]], filtered)


def test_judged_rows_first_filter_and_first_binary_metric_by_default() -> None:
    rows = [row(0, 1, 1), row(1, 0, 1)]
    chosen = [(text, metric, right) for _, text, metric, right in judged_rows(rows, BENCHMARK)]
    assert chosen == [("4", "exact", True), ("4", "exact", False)]
    loose = BENCHMARK.model_copy(update={"filter": "loose"})
    assert [right for *_, right in judged_rows(rows, loose)] == [True, True]


@pytest.mark.parametrize(
    ("update", "said"),
    [
        ({"filter": "none"}, "has the filters strict, loose"),
        ({"metric": "length"}, "no metric length that is right or wrong.*length, exact"),
        ({"metric": "bleu"}, "no metric bleu"),
    ],
)
def test_judged_rows_filter_or_metric_that_is_none_is_one_error(
    update: dict[str, str], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        judged_rows([row(0, 1, 1)], BENCHMARK.model_copy(update=update))


def test_digest_of_rows_changes_with_what_is_asked_alone() -> None:
    rows = [row(0, 1, 1)]
    assert digest_of_rows(rows) == digest_of_rows([row(0, 0, 0)])
    assert digest_of_rows(rows) != digest_of_rows([row(1, 1, 1)])


def test_said_by_text_stays_text_and_likelihoods_become_json() -> None:
    assert said_by(["a"]) == "a"
    assert said_by([(-1.5, True), (-2.0, False)]) == "[[-1.5, true], [-2.0, false]]"


def test_unsafe_task_is_seen_in_a_group_and_in_a_tag_without_loading_it() -> None:
    def entry(cfg: Any = None, tags: tuple[str, ...] = ()) -> Any:
        return SimpleNamespace(cfg=cfg, tags=set(tags))

    index = {
        "safe": entry({"task": "safe"}),
        "code": entry({"task": "code", "unsafe_code": True}, ("coding",)),
        "group": entry({"group": "group", "task": ["safe", {"task": "code"}]}),
        "coding": entry(),
    }
    unsafe = {name: any(map(is_unsafe, entries_of(index, name))) for name in index}
    assert unsafe == {"safe": False, "code": True, "group": True, "coding": True}


def test_identity_task_files_and_the_data_that_they_name_count(tmp_path: Path) -> None:
    data, tasks = tmp_path / "rows.jsonl", tmp_path / "tasks"
    tasks.mkdir()
    data.write_text("{}")
    task = f"task: t\ndataset_kwargs: {{data_files: {data}}}\ndoc_to_text: !function a.b\n"
    (tasks / "t.yaml").write_text(task)
    benchmark = HarnessBenchmark(task="t", tasks_folder=str(tasks))
    before = fingerprint(benchmark)
    data.write_text("{ }")
    assert fingerprint(benchmark) != before


def test_identity_of_responses_leaves_out_what_scores_them() -> None:
    def key(benchmark: HarnessBenchmark) -> Any:
        mini = load_settings("mini", "law").respond_stage(trained=True)
        stage = RespondStage(
            generator=mini.generator, sampling=mini.sampling, benchmarks={"b": benchmark}
        )
        return fingerprint(stage)

    assert key(BENCHMARK) == key(BENCHMARK.model_copy(update={"metric": "acc", "filter": "f"}))
    assert key(BENCHMARK) != key(BENCHMARK.model_copy(update={"num_fewshot": 2}))
