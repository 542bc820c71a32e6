"""The stage from artifacts to document: complete, partial, and twice the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from raft_core.app.pipeline import STAGES
from raft_core.data.records import read_jsonl
from raft_core.errors import InputError
from raft_core.evaluation.study.analysis import analyse
from raft_core.evaluation.study.config import Cell, StudyStage
from raft_core.evaluation.study.document import as_markdown
from raft_core.evaluation.study.results import load_results

Make = Callable[..., StudyStage]
CURVES = [
    {"step": 5.0 * n, "loss_sft": 2.0, "loss_kl": 0.5, "lambda": 2.0, "ratio_sft_kl": 2.0}
    for n in range(1, 6)
]
DISTANCES = {f"model.layers.{n}.mlp.weight": 0.1 + 0.01 * n for n in range(3)}


def row(label: str, *groups: str, **more: Any) -> dict[str, Any]:
    return {"label": label, "groups": groups, "learning_rates": {"tiny": 1e-4, "a/b": 1e-4}, **more}


ROWS = {
    "base": {"label": "base", "groups": ["main"], "trained": False},
    "sft": row("SFT", "main", "ladder"),
    "raft": row("RAFT", "main", "ladder", "balance"),
    "fixed": row("lambda 1", "balance"),
    "tau9": row("RAFT", "sweep", sweep="tau", value="0.9"),
    "merged": row("merged", "main"),
}
SECTIONS = [
    "How it was made",
    "Scores",
    "Differences to the baseline",
    "Domains",
    "Relative gains",
    "Ladder",
    "Balance of the losses",
    "Sweep of tau",
    "Further pairs",
    "Learning rates",
    "Training",
    "Figures",
    "What the study shows",
    "How to read it",
]


@pytest.fixture
def full(folder: Any, settings: Make) -> StudyStage:
    """Two students, two domains, two seeds; the base at one seed, a row without training."""
    cells = [
        Cell(student=student, domain=domain, seed=seed, row=name)
        for student in ("tiny", "a/b")
        for domain in ("law", "web")
        for seed in (0, 1)
        for name in ROWS
        if name != "base" or seed == 0
    ]
    for n, cell in enumerate(cells):
        learned = "0" * 12 if cell.row == "base" else f"{0b110111101011 ^ (n % 7):012b}"
        folder.evaluate(cell, {"domain": learned, "general": "110111110111"})
        if cell.row not in {"base", "merged"}:
            folder.distill(cell, DISTANCES, CURVES if cell.row != "sft" else [])
    return settings(
        cells,
        rows=ROWS,
        pairs=[("raft", "fixed")],
        grid={"tiny": {"raft": {"1e-4": {"domain": 0.9, "general": 0.9}}}},
        diagnostics="It shows *this*.",
        environment={"python": "3.11"},
    )


def sections(page: str) -> list[str]:
    return [line[3:] for line in page.splitlines() if line.startswith("## ")]


def test_study_stage_is_registered() -> None:
    assert STAGES["study"].config is StudyStage
    assert callable(STAGES["study"].load())


def test_run_full_study_all_sections_in_order_and_links_to_figures_that_exist(
    folder: Any, full: StudyStage, tmp_path: Path
) -> None:
    out = folder.run(full, tmp_path / "out")
    page = (out / "study.md").read_text()
    assert sections(page) == SECTIONS
    assert "44 of 44 cells were measured: 2 students, 2 domains, 2 seeds, 6 rows." in page
    assert "It shows *this*." in page
    linked = {
        line.split("(study/")[1].rstrip(")") for line in page.splitlines() if "(study/" in line
    }
    assert linked == {path.name for path in (out / "figures").iterdir()}
    assert {"frontier-a-b.png", "ratios-tiny.png", "distances-tiny.png"} <= linked


def test_run_numbers_and_cells_are_written(folder: Any, full: StudyStage, tmp_path: Path) -> None:
    out = folder.run(full, tmp_path / "out")
    numbers = json.loads((out / "study.json").read_text())
    tiny = numbers["students"][0]
    assert tiny["rows"]["raft"]["runs"] == 4
    assert tiny["rows"]["raft"]["retention"]["value"] == 1.0
    assert tiny["rows"]["raft"]["loss_ratios"] == {"sft_kl": 4.0, "sft_lambda_kl": 2.0}
    assert tiny["rows"]["merged"]["weight_distance"] is None
    assert numbers["seconds"] == 32 * 12.5
    cells = list(read_jsonl(out / "cells.jsonl"))
    assert len(cells) == len(full.cells)
    assert cells[1]["row"] == "sft"
    assert cells[1]["counts"]["domain"]["n"] == 12
    assert cells[1]["counts"]["domain"]["clusters"] == 6
    assert cells[1]["weight_distance"] == pytest.approx(0.11)


def test_run_twice_same_bytes(folder: Any, full: StudyStage, tmp_path: Path) -> None:
    first, second = (folder.run(full, tmp_path / name) for name in ("first", "second"))
    for name in ("study.md", "study.json", "cells.jsonl"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_run_two_rows_of_one_run_only_what_they_allow(
    folder: Any, settings: Make, tmp_path: Path
) -> None:
    cells = [Cell(student="tiny", domain="law", seed=0, row=name) for name in ("base", "raft")]
    absent = Cell(student="tiny", domain="law", seed=1, row="raft")
    for cell in cells:
        folder.evaluate(cell, {"domain": "1100", "general": "1111"})
    out = folder.run(settings([*cells, absent]), tmp_path / "out")
    page = (out / "study.md").read_text()
    assert sections(page) == ["How it was made", "Scores", "Domains", "Figures", "How to read it"]
    assert "Not measured: tiny/law/1/raft." in page
    assert [path.name for path in (out / "figures").iterdir()] == ["frontier-tiny.png"]


def test_load_results_no_cell_error(settings: Make) -> None:
    with pytest.raises(InputError, match=r"no input 'evaluate\.CELL'"):
        load_results(settings([Cell(student="s", domain="d", seed=0, row="raft")]), {})


def test_analyse_rows_answered_differ_error_names_both_cells(
    folder: Any, settings: Make, tmp_path: Path
) -> None:
    cells = [Cell(student="tiny", domain="law", seed=0, row=name) for name in ("sft", "raft")]
    folder.evaluate(cells[0], {"domain": "1100", "general": "1111"})
    folder.evaluate(cells[1], {"domain": "110", "general": "1111"})
    with pytest.raises(InputError, match=r"tiny/law/0/raft' and 'tiny/law/0/sft"):
        folder.run(settings(cells), tmp_path / "out")


def test_matched_base_of_one_seed_serves_all_seeds(folder: Any, full: StudyStage) -> None:
    results = load_results(full, folder.inputs)
    assert len(results.matched("tiny", "raft", "base")) == 4
    assert len(results.matched("tiny", "base", "raft")) == 4
    assert results.matched("tiny", "base", "raft")[0][0].cell.row == "base"


def test_load_results_only_the_domains_own_questions_are_named_after_it(
    folder: Any, full: StudyStage
) -> None:
    scored = next(iter(load_results(full, folder.inputs).cells.values())).scored
    assert scored["domain"].clusters[:3] == (
        "law/domain-0000",
        "law/domain-0000",
        "law/domain-0001",
    )
    assert scored["general"].clusters[0] == "general-0000"


def test_as_markdown_undecided_benchmark_is_said(folder: Any, full: StudyStage) -> None:
    scores = folder.inputs["evaluate.tiny/law/0/sft"] / "scores.json"
    kinds = {"domain": {"kind": "domain", "undecided": 12}, "general": {"undecided": 3}}
    scores.write_text(json.dumps(kinds))
    results = load_results(full, folder.inputs)
    page = as_markdown(results, analyse(results), {})
    assert "decide on no answer: tiny/law/0/sft (domain)." in page


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": {}}, "'rows' lacks: raft"),
        ({"retained": ("other",)}, "no benchmark: other"),
        ({"cluster_pattern": "x"}, "no group"),
        (
            {"rows": {"raft": {"label": "R", "groups": ["sweep"]}}},
            "without 'sweep' or 'value': raft",
        ),
    ],
)
def test_study_stage_inconsistent_settings_error(
    settings: Make, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        settings([Cell(student="s", domain="d", seed=0, row="raft")], **changes)


def test_study_stage_cell_twice_error(settings: Make) -> None:
    with pytest.raises(ValidationError, match="listed twice: s/d/0/raft"):
        settings([Cell(student="s", domain="d", seed=0, row="raft")] * 2)
