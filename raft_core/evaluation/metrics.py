"""A figure with its interval, and Wilson's for a share. The bootstraps stand in `statistics`."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95% interval."""

    value: float
    low: float
    high: float


def wilson(successes: int, total: int) -> Estimate:
    """A share with its Wilson score interval.

    Raises:
        ValueError: there is nothing to take a share of.
    """
    if total <= 0:
        raise ValueError("a share of no rows has no value")
    share, z2 = successes / total, Z_95**2
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = Z_95 / (1 + z2 / total) * sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    low = centre - half if successes > 0 else 0.0  # both exact, but for rounding
    high = centre + half if successes < total else 1.0
    return Estimate(share, low, high)
