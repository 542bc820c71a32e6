"""What the table says of a score that no judge could decide, and of rows that did not fit."""

from __future__ import annotations

from raft_core.evaluation.report import score_cell, training_lines
from raft_core.evaluation.stage import score
from raft_core.records import Vote

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
