from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from raft_core.config.runtime import RuntimeConfig
from raft_core.data.records import write_jsonl
from raft_core.evaluation.promote import (
    PromoteStage,
    PromotionConfig,
    as_markdown,
    domain_checks,
    retention_checks,
    run,
)
from raft_core.execution.inputs import Inputs, flat
from raft_core.execution.progress import Progress
from raft_core.execution.stage import StageRun

CONFIG = PromoteStage(promotion=PromotionConfig(), retained=("general",))


def evaluated(folder: Path, right: Mapping[str, Mapping[str, bool]]) -> Path:
    """An `evaluate` artifact: benchmark -> row id -> right or wrong."""
    folder.mkdir(parents=True)
    write_jsonl(
        folder / "verdicts.jsonl",
        (
            {"benchmark": benchmark, "id": row, "prompt": f"What is {row}?", "correct": correct}
            for benchmark, rows in right.items()
            for row, correct in rows.items()
        ),
    )
    return folder


def rows(count: int, right: int, prefix: str = "row") -> dict[str, bool]:
    return {f"{prefix}{number}": number < right for number in range(count)}


def inputs(tmp_path: Path, models: Mapping[str, tuple[int, int]]) -> dict[str, Path]:
    """Evaluations by role, each with so many of 100 domain and 100 general rows right."""
    found = {
        role: evaluated(tmp_path / role, {"domain": rows(100, d), "general": rows(100, g, "g")})
        for role, (d, g) in models.items()
    }
    (tmp_path / "prepare").mkdir()
    write_jsonl(tmp_path / "prepare" / "train.jsonl", [{"question": "What is new?"}])
    return found | {"prepare": tmp_path / "prepare"}


def with_champion(
    tmp_path: Path, today: tuple[int, int], accepted: tuple[int, int], general: int = 98
) -> dict[str, Path]:
    """Champion and challenger by how many domain rows each has right, today's and the accepted."""
    return inputs(
        tmp_path,
        {
            "base.today": (2, 100),
            "champion.today": (today[0], 100),
            "challenger.today": (today[1], general),
            "champion.accepted": (accepted[0], 100),
            "challenger.accepted": (accepted[1], general),
        },
    )


def decide(stage_inputs: dict[str, Path], out: Path) -> dict[str, object]:
    out.mkdir()
    compared = {role: folder for role, folder in stage_inputs.items() if role != "prepare"}
    named = Inputs(flat({"prepare": stage_inputs["prepare"], "compared": compared}))
    run(StageRun(CONFIG, named, out, out, RuntimeConfig(), Progress(None)))
    decision: dict[str, object] = json.loads((out / "decision.json").read_text())
    return decision


def test_promote_first_model_above_the_base_is_promoted(tmp_path: Path) -> None:
    decision = decide(
        inputs(tmp_path, {"base.today": (2, 100), "challenger.today": (90, 100)}), tmp_path / "out"
    )
    assert decision["promote"] is True
    assert decision["first"] is True


def test_promote_first_model_no_better_than_the_base_is_refused(tmp_path: Path) -> None:
    decision = decide(
        inputs(tmp_path, {"base.today": (50, 100), "challenger.today": (50, 100)}), tmp_path / "out"
    )
    assert decision["promote"] is False


def test_promote_equal_to_the_champion_is_promoted(tmp_path: Path) -> None:
    decision = decide(with_champion(tmp_path, (90, 90), (90, 90)), tmp_path / "out")
    assert decision["promote"] is True
    assert decision["first"] is False


def test_promote_worse_than_the_champion_is_refused(tmp_path: Path) -> None:
    decision = decide(with_champion(tmp_path, (90, 80), (90, 90)), tmp_path / "out")
    assert decision["promote"] is False


def test_promote_wrong_in_training_and_test_alike_is_refused_by_accepted_rows(
    tmp_path: Path,
) -> None:
    stage_inputs = with_champion(tmp_path, today=(5, 95), accepted=(95, 5))
    today, accepted = domain_checks(stage_inputs, CONFIG)
    assert today.passed
    assert not accepted.passed


def test_promote_accepted_row_that_is_trained_on_now_does_not_count(tmp_path: Path) -> None:
    stage_inputs = with_champion(tmp_path, (90, 90), (90, 90))
    write_jsonl(stage_inputs["prepare"] / "train.jsonl", [{"question": "what is ROW3 ?"}])
    _, accepted = domain_checks(stage_inputs, CONFIG)
    assert accepted.rows == 99


def test_promote_all_accepted_rows_trained_on_now_is_refused(tmp_path: Path) -> None:
    stage_inputs = with_champion(tmp_path, (90, 90), (90, 90))
    trained = [{"question": f"What is row{number}?"} for number in range(100)]
    write_jsonl(stage_inputs["prepare"] / "train.jsonl", trained)
    _, accepted = domain_checks(stage_inputs, CONFIG)
    assert accepted.estimate is None
    assert not accepted.passed


@pytest.mark.parametrize(("general", "passes"), [(98, True), (80, False)])
def test_promote_retention_below_its_floor_is_refused(
    tmp_path: Path, general: int, passes: bool
) -> None:
    (check,) = retention_checks(with_champion(tmp_path, (90, 90), (90, 90), general), CONFIG)
    assert check.passed is passes


def test_promote_base_of_one_right_answer_bounds_no_retention(tmp_path: Path) -> None:
    stage_inputs = inputs(tmp_path, {"base.today": (2, 1), "challenger.today": (90, 50)})
    (check,) = retention_checks(stage_inputs, CONFIG)
    assert not check.passed
    assert "| the base scores too little |" in as_markdown([check])[-1]


def test_promote_base_without_a_right_answer_has_nothing_to_retain(tmp_path: Path) -> None:
    stage_inputs = inputs(tmp_path, {"base.today": (2, 0), "challenger.today": (90, 50)})
    (check,) = retention_checks(stage_inputs, CONFIG)
    assert check.estimate is None
    assert not check.passed


def test_promote_decision_names_every_check(tmp_path: Path) -> None:
    decide(with_champion(tmp_path, (90, 80), (90, 90)), tmp_path / "out")
    page = (tmp_path / "out" / "decision.md").read_text()
    assert page.count("passed") == 2
    assert page.count("**failed**") == 1
    assert "general retained of the base" in page
