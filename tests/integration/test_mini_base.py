"""The shipped base is what its card says, and what the pipeline needs of it."""

from __future__ import annotations

import json

import pytest

from raft_core.config import PACKAGE_ROOT
from raft_core.mini.lexicon import DOMAINS
from raft_core.mini.scores import FILE, score_base

BASE = PACKAGE_ROOT / "mini" / "base"
SHIPPED = json.loads((BASE / FILE).read_text())


@pytest.fixture(scope="module")
def measured() -> dict[str, float]:
    return score_base(BASE)


def test_base_scores_are_those_that_are_shipped(measured: dict[str, float]) -> None:
    # Other processors add up in another order: an answer or two may turn.
    assert measured == pytest.approx(SHIPPED, abs=0.011)


def test_base_knows_the_general_facts_and_no_domain(measured: dict[str, float]) -> None:
    assert measured["general"] >= 0.97
    assert all(measured[f"closed_book_{domain}"] <= 0.05 for domain in DOMAINS)


def test_base_reads_rewrites_fuses_and_follows(measured: dict[str, float]) -> None:
    assert measured["teacher"] >= 0.95
    assert measured["fusion"] >= 0.95
    assert measured["instructions"] >= 0.85
    assert all(measured[f"rewriting_{domain}"] >= 0.7 for domain in DOMAINS)


def test_card_and_readme_show_the_shipped_scores() -> None:
    readme = (PACKAGE_ROOT.parent / "README.md").read_text()
    card = (BASE / "README.md").read_text()
    for name in ("general", "instructions", "teacher", "teacher_two_facts", "fusion"):
        assert f"| {SHIPPED[name]:.3f} |" in readme
        assert f"| {SHIPPED[name]:.3f} |" in card
