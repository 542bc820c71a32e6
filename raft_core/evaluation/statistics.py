"""Figures over one or several runs, with intervals that respect paraphrases and shared questions.

A run is one trained model (a domain and a seed). Outcomes are 1 (right) or 0 (wrong), one array a
run; cluster ids are one string a row. All intervals are percentile intervals of one bootstrap on
two levels (Davison & Hinkley 1997, section 3.8; clusters: Field & Welsh 2007): every resample draws
runs with replacement and, for each set of questions, its clusters with replacement. Runs that
answer the same questions share the draw of the clusters, as in the pigeonhole bootstrap of Owen
(2007): the same questions asked in fifteen runs are not fifteen independent samples of questions.
With a single run only its clusters are drawn; where each row is a cluster of its own that is the
common paired bootstrap of rows.

Array names end in a legend: S resamples, R runs, N rows of a run, Q clusters of a run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raft_core.evaluation.metrics import Z_95, Estimate

Floats = NDArray[np.float64]
Outcomes = Sequence[ArrayLike]
Clusters = Sequence[Sequence[str]]
RESAMPLES = 2000
SMALLEST_SCORE = 1e-9
MOST_WITHOUT_SCORE = 0.025  # more resamples without a divisor would be the upper end
Z_POWER = 0.8416212335729143  # 80%
FEWEST_DISCORDANT = 6  # the exact p of five pairs that all go one way is still 0.0625


@dataclass(frozen=True, slots=True)
class McNemar:
    """Discordant pairs and the exact two-sided p that either side is as likely.

    `a_only` counts rows that only a has right, `b_only` those that only b has.
    """

    a_only: int
    b_only: int
    p: float


@dataclass(frozen=True, slots=True)
class _Resamples:
    """Share of each run in each resample, and how often each resample holds a run's clusters."""

    share_SR: Floats
    counts: tuple[Floats, ...]
    members: tuple[NDArray[np.intp], ...]

    def run_means(self, outcomes: Outcomes) -> Floats:
        """Mean outcome of every run in every resample, SR."""
        means = np.empty_like(self.share_SR)
        for run, (counts_SQ, cluster_N) in enumerate(zip(self.counts, self.members, strict=True)):
            right_Q = np.bincount(cluster_N, weights=np.asarray(outcomes[run], dtype=float))
            means[:, run] = (counts_SQ @ right_Q) / (counts_SQ @ np.bincount(cluster_N))
        return means

    def average(self, values_SR: Floats) -> Floats:
        """Mean over the drawn runs, S."""
        mean_S: Floats = (self.share_SR * values_SR).sum(axis=1)
        return mean_S


@lru_cache(maxsize=16)
def _resampled(clusters: tuple[tuple[str, ...], ...], resamples: int, seed: int) -> _Resamples:
    rng = np.random.default_rng(seed)
    runs = len(clusters)
    # Drawn first, so that the benchmarks of the same runs get the same runs from the same seed.
    share_SR = rng.multinomial(runs, np.full(runs, 1 / runs), size=resamples) / runs
    drawn: dict[tuple[str, ...], tuple[Floats, NDArray[np.intp]]] = {}
    for names in clusters:
        if names not in drawn:
            _, cluster_N = np.unique(names, return_inverse=True)
            size = int(cluster_N.max()) + 1
            counts_SQ = rng.multinomial(size, np.full(size, 1 / size), size=resamples)
            drawn[names] = counts_SQ.astype(float), cluster_N
    counts, members = zip(*(drawn[names] for names in clusters), strict=True)
    return _Resamples(share_SR, counts, members)


def _resample(clusters: Clusters, resamples: int, seed: int, *all_outcomes: Outcomes) -> _Resamples:
    """The resamples of runs with these clusters.

    Raises:
        ValueError: there is no run or an empty one, or outcomes and cluster ids differ in number.
    """
    sizes = [len(names) for names in clusters]
    if not sizes or 0 in sizes:
        raise ValueError("no estimate without runs, or of a run without rows")
    for outcomes in all_outcomes:
        if [np.size(each) for each in outcomes] != sizes:
            raise ValueError("outcomes and cluster ids differ in number")
    return _resampled(tuple(tuple(names) for names in clusters), resamples, seed)


def _estimate(value: float, values_S: Floats) -> Estimate:
    low, high = np.quantile(values_S, [0.025, 0.975])
    return Estimate(value, float(low), float(high))


def _mean(outcomes: Outcomes) -> float:
    return float(np.mean([np.mean(np.asarray(each, dtype=float)) for each in outcomes]))


def mean_score(
    a: Outcomes, clusters: Clusters, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Mean accuracy (0 to 1) of one method over its runs, every run with the same weight.

    Raises:
        ValueError: there is no run or an empty one, or outcomes and cluster ids differ in number.
    """
    drawn = _resample(clusters, resamples, seed, a)
    return _estimate(_mean(a), drawn.average(drawn.run_means(a)))


def paired_difference(
    a: Outcomes, b: Outcomes, clusters: Clusters, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Mean accuracy of a minus that of b (-1 to 1) over runs in which both answered the same rows.

    Raises:
        ValueError: as `mean_score`.
    """
    drawn = _resample(clusters, resamples, seed, a, b)
    differences_SR = drawn.run_means(a) - drawn.run_means(b)
    return _estimate(_mean(a) - _mean(b), drawn.average(differences_SR))


def mean_relative_gain(
    groups: Sequence[tuple[Outcomes, Outcomes, Clusters]],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate | None:
    """The relative gain, averaged over groups of runs (students) with the same weight.

    Groups of the same domains, seeds and questions share their resamples. None where b scores zero
    in a group, or in 2.5% of the resamples or more: the gain then has no upper bound.

    Raises:
        ValueError: as `mean_score`, or there is no group.
    """
    if not groups:
        raise ValueError("no gain of no runs")
    if any(_mean(b) == 0 for _, b, _ in groups):
        return None
    value = float(np.mean([_mean(a) / _mean(b) - 1 for a, b, _ in groups]))
    gains_S = np.zeros(resamples)
    undefined_S = np.zeros(resamples, dtype=bool)
    for a, b, clusters in groups:
        drawn = _resample(clusters, resamples, seed, a, b)
        mean_a_S, mean_b_S = (drawn.average(drawn.run_means(x)) for x in (a, b))
        undefined_S |= mean_b_S == 0
        gains_S += (mean_a_S / np.maximum(mean_b_S, SMALLEST_SCORE) - 1) / len(groups)
    return None if undefined_S.mean() >= MOST_WITHOUT_SCORE else _estimate(value, gains_S)


def retention(
    model: Sequence[Outcomes],
    base: Sequence[Outcomes],
    clusters: Sequence[Clusters],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate | None:
    """Mean over runs and benchmarks of score / base score.

    All three take one list of runs per benchmark; the benchmarks share the draw of the runs. None
    where a base score is zero, or where there is no benchmark: nothing was there to be retained.
    None as well where 2.5% of the resamples or more draw no right answer of a base that has few:
    the ratio then has no upper bound.

    Raises:
        ValueError: as `mean_score`.
    """
    values: list[float] = []
    ratios_S = np.zeros(resamples)
    undefined_S = np.zeros(resamples, dtype=bool)
    for after, before, names in zip(model, base, clusters, strict=True):
        if any(np.mean(np.asarray(each, dtype=float)) == 0 for each in before):
            return None
        drawn = _resample(names, resamples, seed, after, before)
        pairs = zip(after, before, strict=True)
        values.append(float(np.mean([_mean([m]) / _mean([b]) for m, b in pairs])))
        before_SR = drawn.run_means(before)
        undefined_S |= ((before_SR == 0) & (drawn.share_SR > 0)).any(axis=1)
        floored_SR = np.maximum(before_SR, SMALLEST_SCORE)
        ratios_S += drawn.average(drawn.run_means(after) / floored_SR) / len(model)
    if not values or undefined_S.mean() >= MOST_WITHOUT_SCORE:
        return None
    return _estimate(float(np.mean(values)), ratios_S)


def mcnemar(a: Outcomes, b: Outcomes) -> McNemar:
    """Exact test of McNemar (1947) on the discordant pairs of all runs: binomial, two-sided.

    It counts rows as independent of each other. Without a discordant pair p is 1.
    """
    right_a, right_b = (
        np.concatenate([np.asarray(x, dtype=bool) for x in each]) for each in (a, b)
    )
    a_only, b_only = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    if a_only + b_only == 0:
        return McNemar(0, 0, 1.0)
    from scipy.stats import binomtest  # a second, which a flow that only prints does not spend

    return McNemar(a_only, b_only, float(binomtest(a_only, a_only + b_only, 0.5).pvalue))


def detectable_difference(rows: int, discordant: int) -> float | None:
    """The smallest true difference of two accuracies (0 to 1) that these rows are likely to show.

    McNemar's two-sided test at 5% finds it with a power of 80%: with n rows, of which the share d
    is discordant, n D^2 = (z_95 sqrt(d) + z_80 sqrt(d - D^2))^2 (Connor 1987, Biometrics 43,
    207-211), solved for D. A difference cannot exceed the discordance; where the observed one is
    too small for any, D is the difference at which all discordant pairs go one way (d = D). Rows
    count as independent, and the exact test is a little blunter. None where there are so few rows
    that the exact test can never say anything.

    Raises:
        ValueError: more discordant pairs than rows.
    """
    if not 0 <= discordant <= rows:
        raise ValueError(f"{discordant} discordant pairs of {rows} rows")
    if rows < FEWEST_DISCORDANT:
        return None
    share, a2, b2 = discordant / rows, Z_95**2, Z_POWER**2
    found = sqrt(share) * (sqrt(rows) * Z_95 + Z_POWER * sqrt(rows + b2 - a2)) / (rows + b2)
    if 0 < found <= share:
        return found
    # With d = D and u = sqrt(1 - D) the same equation is sqrt(n (1 - u^2)) = z_95 + z_80 u.
    u = (sqrt(rows * (rows + b2 - a2)) - Z_95 * Z_POWER) / (rows + b2)
    return 1 - u**2


def cluster(row_id: str, pattern: str | None) -> str:
    """The fact that a row asks for; an id without the pattern or its group is one of its own."""
    found = re.match(pattern, row_id) if pattern is not None else None
    fact = found.group(1) if found is not None else None
    return row_id if fact is None else fact
