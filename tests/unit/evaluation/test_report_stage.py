"""The stage `report` on small artifacts: comparisons by hand, sections, plots, JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raft_core.config.runtime import RuntimeConfig
from raft_core.data.records import Verdict, Vote, write_jsonl
from raft_core.errors import InputError
from raft_core.evaluation.comparison import pairs
from raft_core.evaluation.evaluate import score
from raft_core.evaluation.report import as_markdown, measured, notes, run
from raft_core.evaluation.report_config import ReportStage
from raft_core.execution.progress import Progress
from raft_core.execution.stage import StageRun

# Outcomes, one digit a row; two rows ask for one fact.
ANSWERS = {
    "base": {"domain": "00000000", "general": "11111111"},
    "sft_raw": {"domain": "11000000", "general": "11000000"},
    "sdft": {"domain": "11110000", "general": "11111100"},
    "raft": {"domain": "11111110", "general": "11111110"},
}
MEMBERS = ({"judge": "contains"}, {"judge": "llm_2", "model": "m", "roles": ["wrote"]})


def evaluated(folder: Path, answers: dict[str, str]) -> Path:
    folder.mkdir()
    verdicts, scores = [], {}
    for benchmark, digits in answers.items():
        votes = [votes_for(digit) for digit in digits]
        scores[benchmark] = score(votes)
        verdicts += [
            {"benchmark": benchmark, "id": f"{n // 2}-f{n % 2}", "correct": digit == "1"}
            for n, digit in enumerate(digits)
        ]
    write_jsonl(folder / "verdicts.jsonl", verdicts)
    (folder / "scores.json").write_text(json.dumps(scores))
    return folder


def votes_for(digit: str) -> list[Vote]:
    verdict: Verdict = "correct" if digit == "1" else "incorrect"
    return [Vote("contains", verdict), Vote("llm_2", verdict)]


def trained(folder: Path, distance: float) -> Path:
    folder.mkdir()
    distances = {f"model.layers.{n}.{m}.weight": distance * (n + 1) for n in (0, 1) for m in "qk"}
    (folder / "weight_distance.json").write_text(json.dumps(distances))
    (folder / "summary.json").write_text(json.dumps({"steps": 3, "rows": 9}))
    write_jsonl(
        folder / "curves.jsonl", [{"step": 1, "loss_sft": 1.0}, {"step": 2, "loss_sft": 0.5}]
    )
    return folder


def refined(folder: Path) -> dict[str, Path]:
    inputs = {name: folder / name for name in ("prepare", "filter", "fuse")}
    for path in inputs.values():
        path.mkdir()
        (path / "counts.json").write_text(json.dumps({"in": 1, "kept": 1, "rejected": {}}))
    for split in ("train", "validation", "test"):
        write_jsonl(inputs["prepare"] / f"{split}.jsonl", [{}])
    write_jsonl(inputs["filter"] / "filtered.jsonl", [{"similarity": 0.9, "passed": True}])
    write_jsonl(inputs["fuse"] / "fused.jsonl", [{"source": "fused"}])
    return inputs


Reported = Callable[..., StageRun]


@pytest.fixture
def report(tmp_path: Path) -> Reported:
    """The stage with these methods' artifacts; settings may be overridden."""

    def make(
        *methods: str, answers: dict[str, dict[str, str]] = ANSWERS, **changes: Any
    ) -> StageRun:
        inputs = refined(tmp_path)
        for name in ("base", *methods):
            inputs[f"evaluate.{name}"] = evaluated(tmp_path / f"evaluate.{name}", answers[name])
        for name in methods:
            inputs[f"distill.{name}"] = trained(tmp_path / f"distill.{name}", 0.01)
        config = {
            "domain": "law",
            "learning_rates": dict.fromkeys(methods, 1e-4),
            "benchmarks": ("domain", "general"),
            "retained": ("general",),
            "tau": 0.8,
            "panel": MEMBERS,
            "warnings": ["llm_2 (m) wrote the fused answers"],
        }
        stage = ReportStage.model_validate(config | changes)
        out = tmp_path / "out"
        out.mkdir()
        events = Progress(tmp_path / "events.jsonl")
        return StageRun(stage, inputs, out, tmp_path, RuntimeConfig(), events)

    return make


def numbers_of(stage: StageRun) -> dict[str, Any]:
    return measured(stage.config, stage.inputs)


def test_report_comparisons_by_hand(report: Reported) -> None:
    numbers = numbers_of(report("sft_raw", "sdft", "raft"))
    found = {(c["a"], c["b"], c["benchmark"]): c for c in numbers["comparisons"]}
    assert [key[:2] for key in found][::2] == [
        ("sdft", "sft_raw"), ("raft", "sft_raw"), ("raft", "sdft"),
    ]  # fmt: skip
    raft = found["raft", "sft_raw", "domain"]
    assert raft["difference"]["value"] == pytest.approx(5 / 8)
    # Five pairs that all go one way: p = 2 / 2^5.
    assert raft["mcnemar"] == {"a_only": 5, "b_only": 0, "p": 0.0625}
    assert (raft["rows"], raft["clusters"]) == (8, 8)
    by_name = {row["method"]: row for row in numbers["methods"]}
    assert by_name["sdft"]["retention_by_benchmark"]["general"]["value"] == pytest.approx(0.75)
    assert by_name["raft"]["scores"]["domain"]["agreement"]["kappa"] == 1.0


def test_report_page_has_its_sections_in_order_warning_and_plots(report: Reported) -> None:
    stage = report("sft_raw", "raft")
    run(stage)
    out = stage.out
    page = (out / "report.md").read_text()
    titles = [line for line in page.splitlines() if line.startswith("## ")]
    assert titles == ["## Differences", "## Panel", "## Refinement", "## Training"]
    assert "**Warning**: llm_2 (m) wrote the fused answers." in page
    assert "| RAFT - SFT raw | domain | +0.625 [" in page
    assert "All intervals count rows as independent" in page
    # The base has no domain answer right: no verdict differs, so there is no agreement to state.
    assert "| base | domain | 0.000 | 0.000 |  |  | 1.000 | 0.000 |" in page
    json.loads((out / "report.json").read_text(), parse_constant=pytest.fail)  # no nan
    assert {path.name for path in out.glob("*.png")} == {
        "domain_versus_retention.png", "differences.png", "weight_distance.png", "similarity.png",
        "curves.png",
    }  # fmt: skip


def test_notes_of_the_terminal_begin_with_the_panels_warning(report: Reported) -> None:
    numbers = numbers_of(report("sft_raw", "raft"))
    assert notes(numbers) == ["llm_2 (m) wrote the fused answers"]


def test_report_rows_of_one_fact_are_drawn_together(report: Reported) -> None:
    stage = report("sft_raw", "raft", compare={"cluster_pattern": r"^(.*)-f\d+$"})
    numbers = numbers_of(stage)
    assert {c["clusters"] for c in numbers["comparisons"]} == {4}
    assert "draws rows of one fact together" in as_markdown(numbers, stage.config)


def test_report_without_its_baseline_compares_with_the_base(report: Reported) -> None:
    numbers = numbers_of(report("raft"))
    assert {(c["a"], c["b"]) for c in numbers["comparisons"]} == {("raft", "base")}


def test_report_models_that_answered_different_rows_error(report: Reported) -> None:
    other = ANSWERS | {"raft": {"domain": "111", "general": "11111110"}}
    with pytest.raises(InputError, match="answered different rows"):
        numbers_of(report("sft_raw", "raft", answers=other))


def test_pairs_all_against_the_baseline_then_the_favourite_against_the_others() -> None:
    assert pairs(["a", "b", "c"], "a", "c") == [("b", "a"), ("c", "a"), ("c", "b")]
    assert pairs(["a", "b"], "base", "c") == [("a", "base"), ("b", "base")]
    assert pairs(["a", "b"], "a", "a") == [("b", "a")]
