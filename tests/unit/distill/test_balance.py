"""Eqs. 11-12 by hand, the clamps, and a resume in the middle."""

from __future__ import annotations

import pytest

from raft_core.distill.config import BalanceConfig
from raft_core.distill.loss.balance import AdaptiveBalance


def test_weight_first_step_is_the_ratio_of_the_losses() -> None:
    # m = 0.1 * L, corrected by 1 - 0.9: the losses themselves
    assert AdaptiveBalance(BalanceConfig()).update(2.0, 0.5) == pytest.approx(4.0)


def test_weight_second_step_by_hand() -> None:
    # m_SFT = 0.9 * 0.2 + 0.1 * 1 = 0.28, m_KL = 0.9 * 0.05 + 0.1 * 1 = 0.145; 0.28 / 0.145
    balance = AdaptiveBalance(BalanceConfig())
    balance.update(2.0, 0.5)
    assert balance.update(1.0, 1.0) == pytest.approx(1.931034, abs=1e-6)


def test_weight_before_any_step_is_one() -> None:
    assert AdaptiveBalance(BalanceConfig()).weight == 1.0


def test_weight_vanishing_kl_is_clamped() -> None:
    balance = AdaptiveBalance(BalanceConfig(lambda_max=10))
    assert balance.update(2.0, 0.0) == 10.0


def test_weight_floor_bounds_the_ratio_below_the_clamp() -> None:
    balance = AdaptiveBalance(BalanceConfig(kl_floor=0.5, lambda_max=100))
    assert balance.update(2.0, 1e-9) == pytest.approx(4.0)


def test_state_resumed_run_goes_on_as_if_it_had_not_stopped() -> None:
    losses = [(2.0, 0.5), (1.5, 0.4), (1.0, 0.3), (0.8, 0.2)]
    straight = AdaptiveBalance(BalanceConfig())
    expected = [straight.update(*pair) for pair in losses]
    first, second = AdaptiveBalance(BalanceConfig()), AdaptiveBalance(BalanceConfig())
    for pair in losses[:2]:
        first.update(*pair)
    second.load_state_dict(first.state_dict())
    assert [second.update(*pair) for pair in losses[2:]] == expected[2:]


def test_weight_fixed_rule_never_moves() -> None:
    balance = AdaptiveBalance(BalanceConfig(rule="fixed", fixed=0.1))
    assert [balance.weight, balance.update(2.0, 0.5), balance.update(1.0, 9.0)] == [0.1, 0.1, 0.1]


def test_weight_ramp_scales_from_first_to_last_step() -> None:
    balance = AdaptiveBalance(BalanceConfig(rule="fixed", fixed=2.0, ramp=(0.0, 1.0)), steps=5)
    assert [balance.update(1.0, 1.0) for _ in range(6)] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0]


def test_clamp_is_seen_below_a_ramp_and_never_where_lambda_is_fixed() -> None:
    """lambda is a tenth of lambda_max under the ramp; the ratio is 1000 either way."""
    ramped = AdaptiveBalance(BalanceConfig(ramp=(0.1, 0.1)), steps=5)
    assert ramped.update(1.0, 1e-3) == pytest.approx(1.0)
    assert ramped.is_clamped
    ramped.update(1.0, 50.0)
    assert not ramped.is_clamped
    fixed = AdaptiveBalance(BalanceConfig(rule="fixed", fixed=20.0))
    fixed.update(1.0, 1e-3)
    assert not fixed.is_clamped
