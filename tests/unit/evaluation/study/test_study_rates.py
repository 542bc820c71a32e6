"""The rule that chooses a learning rate."""

from __future__ import annotations

import pytest

from raft_core.evaluation.study.rates import best_rate, mean_scores, overall


def test_best_rate_has_learned_and_kept() -> None:
    scores = {
        1e-5: {"domain": 0.01, "general": 1.0},
        1e-4: {"domain": 0.6, "general": 0.6},
        1e-3: {"domain": 1.0, "general": 0.1},
    }
    assert best_rate(scores) == 1e-4


def test_best_rate_of_equal_ones_the_lowest() -> None:
    assert best_rate({1e-3: {"domain": 0.5}, 1e-4: {"domain": 0.5}}) == 1e-4


def test_overall_harmonic_mean_by_hand() -> None:
    assert overall({"domain": 0.5, "general": 1.0}) == pytest.approx(2 / 3)


def test_mean_scores_over_domains() -> None:
    assert mean_scores([{"domain": 0.5}, {"domain": 1.0}]) == {"domain": 0.75}
