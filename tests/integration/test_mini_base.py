"""The shipped models are what their cards say, and what the pipeline needs of them."""

from __future__ import annotations

import json

import pytest

from raft_core.app.document_settings import load_document_settings
from raft_core.config.base import PACKAGE_ROOT
from raft_core.documents.passages import measure_of
from raft_core.mini.lexicon import DOMAINS
from raft_core.mini.scores import FILE, score_base
from raft_core.mini.styles import VOICES

MODELS = {name: PACKAGE_ROOT / "mini" / name for name in VOICES}
SHIPPED = {name: json.loads((folder / FILE).read_text()) for name, folder in MODELS.items()}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def measured(model: str) -> dict[str, float]:
    return score_base(MODELS[model], voice=VOICES[model])


def test_base_scores_are_those_that_are_shipped(model: str, measured: dict[str, float]) -> None:
    # Other processors add up in another order: an answer or two may turn.
    assert measured == pytest.approx(SHIPPED[model], abs=0.011)


def test_base_knows_the_general_facts_and_no_domain(measured: dict[str, float]) -> None:
    assert measured["general"] >= 0.97
    assert all(measured[f"closed_book_{domain}"] <= 0.05 for domain in DOMAINS)


def test_base_reads_rewrites_fuses_and_follows(measured: dict[str, float]) -> None:
    assert measured["teacher"] >= 0.95
    assert measured["fusion"] >= 0.95
    assert measured["instructions"] >= 0.85
    assert all(measured[f"rewriting_{domain}"] >= 0.68 for domain in DOMAINS)


def test_card_and_readme_show_the_shipped_scores(model: str) -> None:
    readme = (PACKAGE_ROOT.parent / "README.md").read_text()
    card = (MODELS[model] / "README.md").read_text()
    for name in ("general", "instructions", "teacher", "teacher_two_facts", "fusion"):
        assert f"| {SHIPPED[model][name]:.3f} |" in card
        both = " | ".join(f"{SHIPPED[each][name]:.3f}" for each in MODELS)
        assert f"| {both} |" in readme


def test_token_budget_counts_the_tokens_of_its_model() -> None:
    override = "passages.budget={kind: tokens, limit: 9, model: {path: 'mini:base'}}"
    measure = measure_of(load_document_settings("mini", None, [override]).passages.budget)
    assert measure("123") == 3
    assert measure("") == 0
