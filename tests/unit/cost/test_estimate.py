"""The whole estimate, under shipped profiles."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from raft_core.app.settings import load_settings
from raft_core.cost import report
from raft_core.cost.estimate import Estimate, estimate
from raft_core.errors import InputError


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, and no key for the judges."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.delenv("RAFT_JUDGES_API_KEY", raising=False)


def mini(*overrides: str, **changes: Any) -> Estimate:
    return estimate(load_settings("mini", "law", overrides, **changes))


def gpu(*overrides: str) -> Estimate:
    settings = load_settings("gpu", None, overrides, data="assumed")
    return estimate(settings, assume_rows=True)


def home() -> Path:
    return Path(os.environ["RAFT_HOME"])


def test_mini_rows_are_those_of_the_world_and_bounds() -> None:
    found = mini()
    assert found.rows.counts == {"train": 240, "validation": 60, "test": 240}
    assert not found.rows.exact
    assert found.stage("rewrite").requests == 240
    assert found.stops == []


def test_mini_limits_and_settings_count() -> None:
    found = mini("distill.epochs=1", limit=150)
    assert sum(found.rows.counts.values()) == 150
    train = found.rows.counts["train"]
    assert found.stage("distill raft").steps == train // 16


def test_every_stage_of_the_flow_is_there_in_its_order() -> None:
    labels = [stage.label for stage in mini().stages]
    assert labels[:7] == [
        *("prepare", "rewrite", "filter", "fuse", "lineage", "respond base", "evaluate base"),
    ]
    assert labels[7:10] == ["distill raft", "respond raft", "evaluate raft"]
    assert labels[-1] == "report"
    assert len(labels) == 7 + 3 * 4 + 1


def test_rows_above_a_shard_are_gathered() -> None:
    found = mini("rewrite.rows_per_shard=100")
    assert found.stage("rewrite").shards == 3
    assert found.stage("gather").after == ("prepare", "fuse")
    assert found.stage("lineage").after == ("prepare", "rewrite", "filter", "fuse")


def test_pruned_method_has_its_stage() -> None:
    found = mini("methods.fapm={targets: raw, learning_rate: 3e-4, prune: {sparsity: 0.9}}")
    assert found.stage("prune fapm").after == ("distill fapm",)
    assert found.stage("respond fapm").after == ("prepare", "prune fapm")


def test_run_that_ends_early_or_refines_nothing_has_fewer_stages() -> None:
    settings = load_settings("mini", "law")
    assert [s.label for s in estimate(settings, until="filter").stages] == [
        "prepare", "rewrite", "filter",
    ]  # fmt: skip
    raw = settings.model_copy(update={"methods": {"sft_raw": settings.methods["sft_raw"]}})
    found = estimate(raw)
    assert not {"rewrite", "filter", "fuse"} & {stage.label for stage in found.stages}
    assert not any("rounds of fusion" in note for note in found.notes)
    with pytest.raises(InputError, match="--until filter: this run has no such stage"):
        estimate(raw, until="filter")


def test_nothing_is_written() -> None:
    mini()
    assert not home().exists()


def test_gpu_profile_without_anything_here_is_estimated_with_warnings() -> None:
    found = gpu()
    assert found.rows.assumed
    assert [model.shape is not None for model in found.models] == [True, True]
    assert any("RAFT_JUDGES_API_KEY" in stop for stop in found.stops)
    assert any("SmolLM3-3B" in stop for stop in found.stops)
    assert any("general.jsonl" in stop for stop in found.stops)
    distill = found.stage("distill raft")
    assert distill.flops > 1e16
    assert distill.memory is not None
    assert distill.kept is None
    judged = found.stage("evaluate base").endpoints
    assert {use.model for use in judged} == {"gpt-oss-120b", "deepseek-v3.2", "qwen3-32b"}


@pytest.mark.parametrize(
    ("override", "warning"),
    [
        ("distill={gradient_checkpointing: false, gradient_accumulation: 1}", "distill raft needs"),
        ("engine.max_model_len=100000", "engine.max_model_len=100,000 is longer than the 65,536"),
        ("distill.max_prompt_tokens=65000", "more than the 65,536 positions"),
        ("runtime.endpoints.judges.budget.requests=10", "requests is 10"),
        ("runtime.endpoints.judges.budget.tokens=100000", "will take"),
        ("runtime.training.processes=3", "cannot be split over 3 processes"),
        ("runtime.vllm.gpu_memory_utilization=0.5", "fusion_engine: the weights of Qwen"),
        ("distill.max_answer_tokens=100", "answers are cut"),
    ],
)
def test_what_will_not_fit_is_warned_of(override: str, warning: str) -> None:
    found = gpu(override)
    assert [text for text in found.warnings if warning in text], found.warnings


def test_adapter_and_processes_take_less_memory() -> None:
    peaks = [
        found.stage("distill raft").memory.peak  # type: ignore[union-attr]
        for found in (gpu(), gpu("distill.adapter={rank: 16}"), gpu("runtime.training.processes=4"))
    ]
    assert peaks[1] < peaks[0] / 3
    assert peaks[2] < peaks[0] / 2


def test_bad_rows_are_an_error_as_in_a_run(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"question": "Why?", "answer": ""}\n')
    with pytest.raises(InputError, match="field 'answer' is empty"):
        estimate(load_settings("mini", None, data=str(tmp_path / "rows.jsonl")))


def test_report_and_json_tell_the_same() -> None:
    found = gpu("rewrite.rows_per_shard=400")
    text = "\n".join(report.lines(found))
    plain = json.loads(json.dumps(report.as_json(found)))
    assert "rewrite x4" in text
    assert "Warning: a run would stop: no data named" in text
    assert [stage["label"] for stage in plain["stages"]] == [s.label for s in found.stages]
    assert plain["seconds"] == found.seconds


def test_amounts_are_short() -> None:
    assert [report.amount(n) for n in (0, 1234, 2.5e6, 3e9)] == ["", "1,234", "2.5M", "3.0G"]
    assert [report.duration(n) for n in (5, 300, 7200)] == ["5 s", "5.0 min", "2.0 h"]
    assert [report.size(n) for n in (2**20, 2**30)] == ["1 MiB", "1.0 GiB"]
