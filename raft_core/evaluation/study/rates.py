"""Choosing a learning rate from a grid on validation rows: one rule for every method.

The rule is the highest harmonic mean of the scores. A model has to have learned the domain and to
have kept the rest; a plain mean would choose a rate at which it learns nothing and so forgets
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, harmonic_mean

Accuracies = Mapping[str, float]


def mean_scores(by_domain: Sequence[Accuracies]) -> dict[str, float]:
    """Each benchmark's accuracy, averaged over the domains."""
    return {name: fmean(scores[name] for scores in by_domain) for name in by_domain[0]}


def overall(scores: Accuracies) -> float:
    """What the rule maximises."""
    return harmonic_mean(list(scores.values()))


def best_rate(scores: Mapping[float, Accuracies]) -> float:
    """The rate with the highest overall score; of equal ones the lowest."""
    return min(scores, key=lambda rate: (-overall(scores[rate]), rate))
