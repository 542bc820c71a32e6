"""Intervals against known values, and retention by hand."""

from __future__ import annotations

import pytest

from raft_core.errors import GateError
from raft_core.evaluation.gate import GateConfig, require_readable
from raft_core.evaluation.metrics import retention, wilson


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (5, 10, 0.2366, 0.7634),
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),
    ],
)
def test_wilson_published_values(successes: int, total: int, low: float, high: float) -> None:
    estimate = wilson(successes, total)
    assert estimate.value == pytest.approx(successes / total)
    assert (estimate.low, estimate.high) == (
        pytest.approx(low, abs=1e-4),
        pytest.approx(high, abs=1e-4),
    )


def test_wilson_no_rows_error() -> None:
    with pytest.raises(ValueError, match="no rows"):
        wilson(0, 0)


def test_retention_mean_of_ratios_by_hand() -> None:
    # 1/2 of the first kept, all of the second: (0.5 + 1) / 2
    base = [[True, True, True, True], [True, False]]
    model = [[True, True, False, False], [True, False]]
    kept = retention(base, model)
    assert kept is not None
    assert kept.value == pytest.approx(0.75)
    assert kept.low <= 0.75 <= kept.high


def test_retention_equal_models_one_without_spread() -> None:
    kept = retention([[True, False, True]], [[True, False, True]], resamples=500)
    assert kept is not None
    assert kept.value == kept.high == pytest.approx(1.0)


def test_retention_same_seed_same_interval_and_more_rows_a_narrower_one() -> None:
    base, model = [True, True, False, True], [True, False, False, True]
    assert retention([base], [model], seed=3) == retention([base], [model], seed=3)
    few, many = retention([base * 5], [model * 5]), retention([base * 80], [model * 80])
    assert few is not None
    assert many is not None
    assert many.high - many.low < few.high - few.low


def test_retention_base_that_knew_nothing_none() -> None:
    assert retention([[False, False]], [[True, True]]) is None


def test_gate_below_threshold_error_with_score_threshold_and_remedy() -> None:
    with pytest.raises(GateError, match=r"0\.940 .*threshold=0\.95.*stronger base"):
        require_readable({"reading": {"accuracy": 0.94}}, GateConfig(), "m")


def test_gate_at_threshold_passes() -> None:
    assert require_readable({"reading": {"accuracy": 0.95}}, GateConfig(), "m") == 0.95
