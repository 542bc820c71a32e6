"""Signals of an unwell training by hand, and when they warn and stop."""

from __future__ import annotations

from typing import Any

import pytest

from raft_core.config.runtime import HealthLimits
from raft_core.distill.health import Health, leaking_share, repeated_share, require_finite
from raft_core.errors import StageError


def health(**limits: Any) -> Health:
    return Health(HealthLimits.model_validate(limits))


@pytest.mark.parametrize(
    ("ids", "share"),
    [
        ([], 0.0),
        ([1, 2, 3], 0.0),
        ([1, 2, 3, 4, 5], 0.0),
        ([1, 2, 1, 2, 1, 2], 1 / 3),  # 1212, 2121, 1212
        ([7] * 13, 0.9),  # ten times 7777
    ],
)
def test_repeated_share_by_hand(ids: list[int], share: float) -> None:
    assert repeated_share(ids) == pytest.approx(share)


def test_leaking_share_counts_rollouts_not_phrases() -> None:
    texts = ["The Reference Answer says, according to the reference answer: 4.", "It is 4.", ""]
    phrases = ("reference answer", "according to the reference")
    assert leaking_share(texts, phrases) == pytest.approx(1 / 3)
    assert leaking_share([], phrases) == 0


@pytest.mark.parametrize("losses", [[float("nan"), 1.0], [1.0, float("inf")]])
def test_require_finite_error_names_step_losses_and_remedy(losses: list[float]) -> None:
    require_finite([1.0, 2.0], 3)
    with pytest.raises(StageError, match=r"step 3 .*(nan|inf).*learning_rate"):
        require_finite(losses, 3)


@pytest.mark.parametrize("end", ["", "_rehearsal"])
@pytest.mark.parametrize(
    ("name", "logs"),
    [
        ("truncated", {"truncated_share": 1.0}),
        ("repeated", {"repeated_share": 0.9}),
        ("leaking", {"leaking_share": 0.6}),
        ("outside_k", {"student_mass_in_k": 0.01}),
        ("collapsed", {"student_entropy": 0.0001}),
        ("clamped", {"clamped_share": 1.0}),
    ],
)
def test_health_each_signal_of_each_loss_warns_at_once_and_stops_after_patience(
    name: str, logs: dict[str, float], end: str
) -> None:
    """Beside a loss that is well: `end` is what the names of the other one end with."""
    other = {"": "_rehearsal", "_rehearsal": ""}[end]
    well = {"student_entropy": 1.0, "student_mass_in_k": 0.99, "clamped_share": 0.0}
    both = {f"{key}{each}": value for key, value in well.items() for each in (end, other)}
    unwell = both | {f"{key}{end}": value for key, value in logs.items()}
    watched = health(patience=2, clamped={"warn": 1, "stop": 1})
    assert watched.check(1, both) == []
    (warning,) = watched.check(2, unwell)
    assert f"({name}{end} " in warning
    assert not watched.reason
    assert watched.check(3, unwell) == []
    assert f"{name}{end} was at least" in watched.reason
    assert f"runtime.training.health.{name}.stop" in watched.reason
    assert "step 3" in watched.reason


def test_health_recovery_forgets_what_was_beyond_and_warns_again() -> None:
    watched = health(patience=2)
    for step in (1, 3, 5):
        assert len(watched.check(step, {"truncated_share": 1.0})) == 1
        assert watched.check(step + 1, {"truncated_share": 0.1}) == []
    assert not watched.reason


def test_health_lambda_at_its_limit_warns_and_does_not_stop_by_default() -> None:
    watched = health(patience=1)
    assert len(watched.check(1, {"clamped_share": 1.0})) == 1
    assert not watched.reason
    strict = health(patience=1, clamped={"warn": 1, "stop": 1})
    strict.check(1, {"clamped_share": 1.0})
    assert "lambda_max" in strict.reason


def test_health_lines_without_a_signal_change_nothing() -> None:
    watched = health(patience=2)
    watched.check(1, {"truncated_share": 1.0})
    watched.check(1, {"train_runtime": 3.0})
    watched.check(2, {"truncated_share": 1.0})
    assert watched.reason


def test_health_entropy_that_is_zero_from_the_start_is_no_collapse() -> None:
    watched = health(patience=1)
    assert watched.check(1, {"student_entropy": 0.0}) == []
    assert watched.check(2, {"student_entropy": 0.5}) == []
    assert not watched.reason


def test_health_limits_may_be_switched_off() -> None:
    off = health(patience=1, truncated={"warn": None, "stop": None})
    assert off.check(1, {"truncated_share": 1.0}) == []
    assert not off.reason


def lines(*entropies: float) -> list[dict[str, float]]:
    found = enumerate(entropies, start=1)
    return [{"step": step, "loss": 1.0, "student_entropy": entropy} for step, entropy in found]


def test_health_recall_of_a_collapse_stops_at_once_under_the_same_limits() -> None:
    watched = health()
    watched.recall(lines(2.0, 2.0, 1e-4, 1e-4, 1e-4))
    assert "stopped at step 5" in watched.reason
    assert "collapsed.stop" in watched.reason


def test_health_recall_counts_on_and_compares_with_the_first_entropy() -> None:
    """Two of three lines lie before the resume; alone, none of the later ones is a collapse."""
    watched = health()
    watched.recall(lines(2.0, 1e-4, 1e-4))
    assert not watched.reason
    assert watched.check(4, {"student_entropy": 1e-4}) == []  # has been told before the resume
    assert "stopped at step 4" in watched.reason


@pytest.mark.parametrize(
    "limits", [{"patience": 4}, {"collapsed": {"warn": None, "stop": 0.99999}}]
)
def test_health_recall_under_wider_limits_goes_on(limits: dict[str, Any]) -> None:
    watched = health(**limits)
    watched.recall(lines(2.0, 2.0, 1e-4, 1e-4, 1e-4))
    assert not watched.reason


def test_health_recall_of_a_training_that_recovered_goes_on() -> None:
    watched = health()
    watched.recall(lines(2.0, 1e-4, 1e-4, 1e-4, 1.0))
    assert not watched.reason
