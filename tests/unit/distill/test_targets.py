"""Which answers SDFT learns: rewrites that leak nothing and whose answer is right."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raft_core.data.records import Example, FilteredRewrite
from raft_core.distill.batches.targets import rewritten_targets

QUESTION = "What is the court of Penzek?"


def target(
    text: str, *, passed: bool = True, reason: str = "", expected: tuple[str, ...] = ("gelmis",)
) -> tuple[str, str]:
    example = Example("a", QUESTION, "It is held that gelmis is it.", "train", expected)
    (row,) = rewritten_targets([example], [FilteredRewrite("a", text, 0.5, passed, reason)])
    return row.source, row.answer


def test_rewritten_target_right_answer_is_kept() -> None:
    assert target("Sure! It is gelmis.") == ("rewrite", "Sure! It is gelmis.")


def test_rewritten_target_right_answer_below_tau_is_kept() -> None:
    assert target("It is gelmis.", passed=False, reason="below_tau")[0] == "rewrite"


def test_rewritten_target_right_answer_that_the_guard_rejects_is_kept() -> None:
    """SDFT knows no guard: where a row names its answer, that alone decides."""
    example = Example("a", QUESTION, "It is held that gelmis is it.", "train", ("gelmis",))
    detail = {"number_changed": "new '7'"}
    rewrite = FilteredRewrite("a", "By 7 it is gelmis.", 0.9, False, *next(iter(detail.items())))
    (row,) = rewritten_targets([example], [replace(rewrite, guard=detail)])
    assert row.source == "rewrite"


def test_rewritten_target_wrong_answer_falls_back_to_the_reference() -> None:
    assert target("Sure! It is dorvin.") == ("reference", "It is held that gelmis is it.")


@pytest.mark.parametrize("reason", ["leaks_the_task", "truncated", "missing", "empty"])
def test_rewritten_target_unusable_rewrite_falls_back(reason: str) -> None:
    assert target("gelmis", passed=False, reason=reason)[0] == "reference"


@pytest.mark.parametrize(("passed", "source"), [(True, "rewrite"), (False, "reference")])
def test_rewritten_target_without_expected_strings_trusts_the_filter(
    passed: bool, source: str
) -> None:
    reason = "" if passed else "below_tau"
    assert target("Anything.", passed=passed, reason=reason, expected=())[0] == source
