"""Wilson's interval against published values, and the gate."""

from __future__ import annotations

import pytest

from raft_core.errors import GateError
from raft_core.evaluation.gate import GateConfig, require_readable
from raft_core.evaluation.metrics import wilson


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


def test_wilson_all_or_none_ends_exactly_at_one_and_zero() -> None:
    for total in range(1, 60):
        assert (wilson(0, total).low, wilson(total, total).high) == (0.0, 1.0)


def test_wilson_no_rows_error() -> None:
    with pytest.raises(ValueError, match="no rows"):
        wilson(0, 0)


def test_gate_below_threshold_error_with_score_threshold_and_remedy() -> None:
    with pytest.raises(GateError, match=r"0\.940 .*threshold=0\.95.*stronger base"):
        require_readable({"reading": {"accuracy": 0.94}}, GateConfig(), "m")


def test_gate_at_threshold_passes() -> None:
    assert require_readable({"reading": {"accuracy": 0.95}}, GateConfig(), "m") == 0.95
