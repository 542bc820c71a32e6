"""All numbers of the study, computed once; tables, figures and study.json show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, geometric_mean

from raft_core.evaluation import statistics
from raft_core.evaluation.metrics import Estimate
from raft_core.evaluation.statistics import McNemar
from raft_core.evaluation.study.config import BASE, StudyStage
from raft_core.evaluation.study.results import CellResult, Results, paired_outcomes

SMALLEST_LOSS = 1e-12


@dataclass(frozen=True, slots=True)
class Training:
    """What a row's trainings had in common: means over its runs."""

    runs: int
    steps: float
    rows: float
    seconds: float | None


@dataclass(frozen=True, slots=True)
class LossRatios:
    """Geometric means over logged steps and runs, without and with lambda."""

    sft_kl: float
    sft_lambda_kl: float


@dataclass(frozen=True, slots=True)
class RowSummary:
    """A row of one student over its runs (domains x seeds)."""

    row: str
    runs: int
    scores: dict[str, Estimate]
    retention: Estimate | None
    weight_distance: float | None
    training: Training | None
    loss_ratios: LossRatios | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Row a against row b over the runs that both have."""

    a: str
    b: str
    runs: int
    differences: dict[str, Estimate]
    tests: dict[str, McNemar]


@dataclass(frozen=True, slots=True)
class StudentAnalysis:
    """`domains` holds mean accuracies over seeds: domain -> row -> benchmark."""

    student: str
    rows: dict[str, RowSummary]
    against_baseline: dict[str, Comparison]
    against_method: dict[str, Comparison]
    ladder: dict[str, Comparison]
    pairs: tuple[Comparison, ...]
    domains: dict[str, dict[str, dict[str, float]]]
    gains: dict[str, Estimate | None]


@dataclass(frozen=True, slots=True)
class Analysis:
    students: tuple[StudentAnalysis, ...]
    mean_gains: dict[str, Estimate | None]


def analyse(results: Results) -> Analysis:
    students = tuple(analyse_student(results, student) for student in results.students)
    return Analysis(students, mean_gains(results))


def analyse_student(results: Results, student: str) -> StudentAnalysis:
    config = results.config
    rows = [row for row in config.rows if results.of(student, row)]
    ladder = [row for row in config.grouped("ladder") if row in rows]
    steps = [(row, before) for before, row in pairwise(ladder)]
    return StudentAnalysis(
        student=student,
        rows={row: summarise_row(results, student, row) for row in rows},
        against_baseline=_compared_with(results, student, rows, config.baseline),
        against_method=_compared_with(results, student, rows, config.method),
        ladder={c.a: c for c in _comparisons(results, student, steps)},
        pairs=tuple(_comparisons(results, student, config.pairs)),
        domains=domain_means(results, student),
        gains=student_gains(results, student),
    )


def summarise_row(results: Results, student: str, row: str) -> RowSummary:
    runs, config = results.of(student, row), results.config
    scores = {
        name: statistics.mean_score(
            [run.scored[name].correct_N for run in runs],
            [run.scored[name].clusters for run in runs],
            config.resamples,
        )
        for name in config.benchmarks
    }
    distances = [run.weight_distance for run in runs]
    known = [distance for distance in distances if distance is not None]
    return RowSummary(
        row=row,
        runs=len(runs),
        scores=scores,
        retention=None if row == BASE else row_retention(results, student, row),
        weight_distance=fmean(known) if known else None,
        training=summarise_training(runs),
        loss_ratios=loss_ratios(runs),
    )


def row_retention(results: Results, student: str, row: str) -> Estimate | None:
    matched = results.matched(student, row, BASE)
    if not matched:
        return None
    paired = [paired_outcomes(matched, name) for name in results.config.retained]
    return statistics.retention(
        [each.a for each in paired],
        [each.b for each in paired],
        [each.clusters for each in paired],
        results.config.resamples,
    )


def summarise_training(runs: Sequence[CellResult]) -> Training | None:
    """None where no run has a summary of its training."""
    trained = [run for run in runs if {"steps", "rows"} <= run.training.keys()]
    if not trained:
        return None
    seconds = [run.seconds for run in trained if run.seconds is not None]
    return Training(
        runs=len(trained),
        steps=fmean(run.training["steps"] for run in trained),
        rows=fmean(run.training["rows"] for run in trained),
        seconds=fmean(seconds) if seconds else None,
    )


def loss_ratios(runs: Sequence[CellResult]) -> LossRatios | None:
    """None where no run distilled."""
    points = [p for run in runs for p in run.curves if "loss_kl" in p]
    if not points:
        return None
    return LossRatios(
        geometric_mean(unweighted_ratio(p) for p in points),
        geometric_mean(max(p["ratio_sft_kl"], SMALLEST_LOSS) for p in points),
    )


def unweighted_ratio(point: dict[str, float]) -> float:
    """SFT loss / KL loss at one logged step, without lambda."""
    return max(point["loss_sft"], SMALLEST_LOSS) / max(point["loss_kl"], SMALLEST_LOSS)


def compare(results: Results, student: str, a: str, b: str) -> Comparison | None:
    """None where the two rows have no run in common."""
    matched = results.matched(student, a, b)
    if not matched:
        return None
    differences, tests = {}, {}
    for name in results.config.benchmarks:
        paired = paired_outcomes(matched, name)
        differences[name] = statistics.paired_difference(
            paired.a, paired.b, paired.clusters, results.config.resamples
        )
        tests[name] = statistics.mcnemar(paired.a, paired.b)
    return Comparison(a, b, len(matched), differences, tests)


def _comparisons(
    results: Results, student: str, pairs: Sequence[tuple[str, str]]
) -> list[Comparison]:
    found = [compare(results, student, a, b) for a, b in pairs]
    return [comparison for comparison in found if comparison is not None]


def _compared_with(
    results: Results, student: str, rows: Sequence[str], reference: str
) -> dict[str, Comparison]:
    pairs = [(row, reference) for row in rows if row != reference]
    return {comparison.a: comparison for comparison in _comparisons(results, student, pairs)}


def domain_means(results: Results, student: str) -> dict[str, dict[str, dict[str, float]]]:
    """Mean accuracies over seeds of the main rows: domain -> row -> benchmark."""
    means: dict[str, dict[str, dict[str, float]]] = {}
    for domain in results.domains(student):
        for row in results.config.grouped("main"):
            if runs := results.of(student, row, domain):
                means.setdefault(domain, {})[row] = {
                    name: fmean(run.scored[name].accuracy for run in runs)
                    for name in results.config.benchmarks
                }
    return means


def student_gains(results: Results, student: str) -> dict[str, Estimate | None]:
    """Benchmark -> relative gain of the method over the baseline; empty without common runs."""
    return _gains(results, [student])


def mean_gains(results: Results) -> dict[str, Estimate | None]:
    """The gains averaged over all students that have both rows."""
    return _gains(results, results.students)


def _gains(results: Results, students: Sequence[str]) -> dict[str, Estimate | None]:
    config: StudyStage = results.config
    matched = [results.matched(student, config.method, config.baseline) for student in students]
    matched = [pairs for pairs in matched if pairs]
    gains: dict[str, Estimate | None] = {}
    for name in config.benchmarks if matched else ():
        paired = [paired_outcomes(pairs, name) for pairs in matched]
        groups = [(each.a, each.b, each.clusters) for each in paired]
        gains[name] = statistics.mean_relative_gain(groups, config.resamples)
    return gains
