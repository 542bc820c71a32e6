"""Figures with intervals: Wilson for a share, paired bootstrap for a ratio of two scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

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
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half))


def retention(
    base: Sequence[Sequence[bool]],
    model: Sequence[Sequence[bool]],
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate | None:
    """Mean over benchmarks of score / base score, with a paired bootstrap interval.

    Both take one list of outcomes per benchmark, in the same order of rows. None where a base
    score is zero: nothing was there to be retained.
    """
    pairs = [
        (np.asarray(b, dtype=float), np.asarray(m, dtype=float))
        for b, m in zip(base, model, strict=True)
    ]
    if not pairs or any(b.mean() == 0 for b, _ in pairs):
        return None
    value = float(np.mean([m.mean() / b.mean() for b, m in pairs]))
    rng = np.random.default_rng(seed)
    ratios = np.zeros(resamples)
    for b, m in pairs:
        rows = rng.integers(0, len(b), size=(resamples, len(b)))
        ratios += m[rows].mean(1) / np.maximum(b[rows].mean(1), 1e-9) / len(pairs)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Estimate(value, float(low), float(high))
