"""Tables of a small study whose outcomes are all alike, so that every interval is a point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from raft_core.evaluation.study import setting_tables, tables
from raft_core.evaluation.study.analysis import Analysis, analyse
from raft_core.evaluation.study.config import Cell, StudyStage
from raft_core.evaluation.study.results import load_results

Make = Callable[..., StudyStage]
RIGHT, WRONG, HALF = "1" * 8, "0" * 8, "10" * 4
ROWS = {
    "base": {"label": "base", "groups": ["main"], "trained": False},
    "sft": {
        "label": "SFT",
        "groups": ["main", "ladder"],
        "learning_rates": {"tiny": 3e-4},
        "note": "plain",
    },
    "raft": {"label": "RAFT", "groups": ["main", "ladder"], "learning_rates": {"tiny": 1e-4}},
    "tau9": {"label": "RAFT", "groups": ["sweep"], "sweep": "tau", "value": "0.9"},
}
OUTCOMES = {
    "base": {"domain": WRONG, "general": RIGHT},
    "sft": {"domain": HALF, "general": HALF},
    "raft": {"domain": RIGHT, "general": HALF},
    "tau9": {"domain": HALF, "general": RIGHT},
}


@pytest.fixture
def study(folder: Any, settings: Make) -> tuple[StudyStage, Analysis]:
    cells = [Cell(student="tiny", domain="law", seed=0, row=row) for row in ROWS]
    for cell in cells:
        folder.evaluate(cell, OUTCOMES[cell.row])
        if cell.row != "base":
            folder.distill(cell, {"layers.0.w": 0.25, "norm": 0.75}, [])
    grid = {"tiny": {"raft": {"0.0001": {"domain": 1.0, "general": 0.5}, "3e-4": {"domain": 0.5}}}}
    config = settings(cells, rows=ROWS, pairs=[("raft", "tau9"), ("raft", "absent")], grid=grid)
    return config, analyse(load_results(config, folder.inputs))


def test_scores_table_scores_retention_drift_and_notes(study: tuple[StudyStage, Analysis]) -> None:
    config, analysis = study
    assert tables.scores_table(analysis.students[0], config.grouped("main"), config) == [
        "| method | lr | runs | domain | general | retention | drift |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| base |  | 1 | 0.000 [0.00, 0.00] | 1.000 [1.00, 1.00] |  |  |",
        "| SFT | 3.0e-04 | 1 | 0.500 [0.50, 0.50] | 0.500 [0.50, 0.50] | 0.500 [0.50, 0.50] "
        "| 0.500 |",
        "| RAFT | 1.0e-04 | 1 | 1.000 [1.00, 1.00] | 0.500 [0.50, 0.50] | 0.500 [0.50, 0.50] "
        "| 0.500 |",
        "",
        "- SFT: plain",
    ]


def test_paired_table_differences_with_star_and_discordant_pairs(
    study: tuple[StudyStage, Analysis],
) -> None:
    config, analysis = study
    against = analysis.students[0].against_baseline
    assert tables.paired_table(against, ["base", "sft", "raft"], config)[2:] == [
        "| base | 1 | -0.500 [-0.500, -0.500]* | 0.12 (0:4) | +0.500 [+0.500, +0.500]* "
        "| 0.12 (4:0) |",
        "| RAFT | 1 | +0.500 [+0.500, +0.500]* | 0.12 (4:0) | +0.000 [+0.000, +0.000] | 1 (0:0) |",
    ]


def test_domains_table_best_bold_and_rows_above_the_method_named(
    study: tuple[StudyStage, Analysis],
) -> None:
    config, analysis = study
    assert tables.domains_table(analysis.students[0], config) == [
        "| domain | base | SFT | RAFT |",
        "| --- | ---: | ---: | ---: |",
        "| law | 0.000 / **1.000** | 0.500 / 0.500 | **1.000** / 0.500 |",
        "",
        "Cells: domain / general.",
        "",
        "Rows above RAFT (RAFT's own accuracy in brackets):",
        "",
        "- law: general (0.500): base 1.000",
    ]


def test_gains_table_beside_the_paper(study: tuple[StudyStage, Analysis]) -> None:
    config, analysis = study
    assert tables.gains_table(analysis, config)[2:] == [
        "| tiny | +100.0% [+100.0%, +100.0%]* | +0.0% [+0.0%, +0.0%] |",
        "| the paper | +23.2% (domain) | +18.2% (MS-Bench) |",
    ]


def test_pairs_table_leaves_out_rows_that_were_not_measured(
    study: tuple[StudyStage, Analysis],
) -> None:
    config, analysis = study
    (line,) = tables.pairs_table(analysis.students[0], config)[2:]
    assert line.startswith("| RAFT - RAFT, tau 0.9 | 1 | +0.500 [+0.500, +0.500]* | 0.12 (4:0) |")


def test_ladder_table_each_rung_against_the_one_above(study: tuple[StudyStage, Analysis]) -> None:
    config, analysis = study
    lines = setting_tables.ladder_table(analysis.students[0], config)
    assert "Difference to the rung above:" in lines
    assert lines[-1].startswith("| RAFT | 1 | +0.500 [+0.500, +0.500]* |")


def test_sweep_table_method_above_and_differences_to_it(study: tuple[StudyStage, Analysis]) -> None:
    config, analysis = study
    lines = setting_tables.sweep_table(analysis.students[0], "tau", config)
    assert lines[0].startswith("| tau | lr | runs |")
    assert lines[2].startswith("| RAFT | 1.0e-04 | 1 | 1.000")
    assert lines[3].startswith("| 0.9 |  | 1 | 0.500")
    assert lines[3].endswith("| -0.500 [-0.500, -0.500]* | +0.500 [+0.500, +0.500]* |")


def test_grid_table_chosen_rate_bold_and_flagged_at_the_edge(
    study: tuple[StudyStage, Analysis],
) -> None:
    config, _ = study
    assert setting_tables.grid_table("tiny", config) == [
        "| method | lr | domain | general | harmonic mean |",
        "| --- | --- | ---: | ---: | ---: |",
        "| RAFT | **1.0e-04** (edge of the grid) | 1.000 | 0.500 | 0.667 |",
        "| RAFT | 3.0e-04 | 0.500 |  |  |",
    ]


def test_grid_table_rate_off_the_grid_said(settings: Make) -> None:
    cell = Cell(student="tiny", domain="law", seed=0, row="raft")
    config = settings([cell], grid={"tiny": {"raft": {"5e-4": {"domain": 1.0, "general": 1.0}}}})
    assert setting_tables.grid_table("tiny", config)[-1] == (
        "- RAFT was trained at 1.0e-04, off its grid."
    )


def test_training_table_steps_rows_and_seconds_of_the_record(
    study: tuple[StudyStage, Analysis],
) -> None:
    config, analysis = study
    assert setting_tables.training_table(analysis.students[0], config)[2] == (
        "| SFT | 1 | 300 | 240 | 12.5 |"
    )
