"""What the table says of a score that no judge could decide, and of rows that did not fit."""

from __future__ import annotations

from raft_core.data.records import Vote
from raft_core.evaluation.benchmarks.instructions import Followed, instruction_levels
from raft_core.evaluation.evaluate import score
from raft_core.evaluation.report import score_cell, training_lines
from raft_core.evaluation.report_sections import ifeval_section

YES, NO, UNKNOWN = Vote("j", "correct"), Vote("j", "incorrect"), Vote("j", "cannot_tell")


def test_score_counts_majorities_and_undecided_answers() -> None:
    counted = score([[YES, YES, NO], [NO, UNKNOWN, UNKNOWN], [YES, NO, UNKNOWN]])
    assert (counted["correct"], counted["undecided"], counted["cannot_tell"]) == (1, 1, 3)


def test_score_cell_undecided_everywhere_is_not_shown_as_zero() -> None:
    assert score_cell(score([[NO, UNKNOWN, UNKNOWN]] * 4)) == "undecided"
    assert score_cell(score([[NO, UNKNOWN, UNKNOWN], [NO, NO, NO]])).startswith("0.000 [")


def test_training_lines_name_what_did_not_fit() -> None:
    counts = {"steps": 3, "rows": 9, "answers_cut": 2, "references_cut": 0}
    rows = [{"label": "base", "training": None}, {"label": "RAFT", "training": counts}]
    assert training_lines(rows) == ["RAFT: 9 rows, 3 steps, 2 answers cut"]


def test_ifeval_section_shows_four_figures_and_the_splitter() -> None:
    checked = [
        [Followed("a", True, True), Followed("b", False, True)],
        [Followed("a", True, True)],
    ]
    scores = {"domain": {}, "ifeval": {"ifeval": instruction_levels(checked)}}
    rows = [{"label": "RAFT", "scores": scores}]
    section = ifeval_section(rows, ["domain", "ifeval"])
    (line,) = [line for line in section if line.startswith("| RAFT")]
    # prompts: 1 of 2 strict, 2 of 2 loose; instructions: 2 of 3 strict, 3 of 3 loose
    assert "| 0.500 [" in line
    assert "| 1.000 [" in line
    assert line.endswith("| 0.667 | 1.000 |")
    assert "Sentences are split by" in section[-2]
    assert ifeval_section(rows, ["domain"]) == []
