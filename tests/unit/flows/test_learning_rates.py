"""The rule that chooses a learning rate from validation scores."""

from __future__ import annotations

import pytest

from flows.learning_rates import chosen_rates, means_of, validation_settings
from raft_core.errors import InputError


def scores(domain: float, general: float) -> dict[str, dict[str, float]]:
    return {"law": {"domain": domain, "general": general}}


def test_means_of_averages_each_score_over_the_domains() -> None:
    two = {"law": {"domain": 0.4, "general": 0.2}, "web": {"domain": 0.8, "general": 0.4}}
    (means,) = means_of({("sft", 1e-4): two}).values()
    assert means == pytest.approx({"domain": 0.6, "general": 0.3})


def test_chosen_rates_one_that_learns_nothing_and_forgets_nothing_loses() -> None:
    grid = {
        ("sft", 1e-4): scores(0.02, 1.0),
        ("sft", 1e-3): scores(0.5, 0.5),
        ("raft", 1e-4): scores(0.9, 0.9),
        ("raft", 1e-3): scores(1.0, 0.1),
    }
    assert chosen_rates(grid) == {"sft": 1e-3, "raft": 1e-4}


def test_chosen_rates_of_equal_ones_the_lowest() -> None:
    grid = {("raft", rate): scores(0.9, 0.9) for rate in (3e-4, 1e-4, 6e-4)}
    assert chosen_rates(grid) == {"raft": 1e-4}


def test_validation_settings_without_a_grid_error() -> None:
    with pytest.raises(InputError, match="learning_rate_grid' is empty"):
        validation_settings("mini", "law", ["learning_rate_grid=[]"])
