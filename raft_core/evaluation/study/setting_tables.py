"""The tables of what was varied: ladder, balance, sweeps, grid of rates, cost of training."""

from __future__ import annotations

from collections.abc import Sequence

from raft_core.evaluation import markdown
from raft_core.evaluation.study.analysis import RowSummary, StudentAnalysis
from raft_core.evaluation.study.config import Accuracies, StudyStage
from raft_core.evaluation.study.rates import overall
from raft_core.evaluation.study.tables import notes, paired_table, scores_table


def ladder_table(student: StudentAnalysis, config: StudyStage) -> list[str]:
    """The rungs in order, and what each adds to the one above it."""
    rows = config.grouped("ladder")
    scores = scores_table(student, rows, config)
    added = paired_table(student.ladder, rows, config)
    return [*scores, "", "Difference to the rung above:", "", *added] if added else scores


def balance_table(student: StudentAnalysis, config: StudyStage) -> list[str]:
    """Scores of the rows with different balances, and the ratios of the losses they reach."""
    rows = config.grouped("balance")
    scores = scores_table(student, rows, config)
    ratios = [
        [config.label(row), f"{found.sft_kl:.3g}", f"{found.sft_lambda_kl:.3g}"]
        for row in rows
        if row in student.rows and (found := student.rows[row].loss_ratios) is not None
    ]
    if not ratios:
        return scores
    return [*scores, "", *markdown.table(["method", "SFT / KL", "SFT / (lambda KL)"], ratios)]


def sweep_table(student: StudentAnalysis, sweep: str, config: StudyStage) -> list[str]:
    """One swept setting; the method at its default stands above the values.

    The differences are to the method on the runs that both have, for a sweep may cover fewer.
    """
    rows = [row for row in config.sweeps()[sweep] if row in student.rows]
    if not rows:
        return []
    own = [config.method] if config.method in student.rows and config.method not in rows else []
    differences = [f"Δ {name}" for name in config.benchmarks]
    head = [sweep, "lr", "runs", *config.benchmarks, "retention", "drift", *differences]
    lines = [sweep_line(student, student.rows[row], config) for row in (*own, *rows)]
    if own:
        lines[0][0] = config.label(config.method)
    return [*markdown.table(head, lines), *notes(rows, config)]


def sweep_line(student: StudentAnalysis, summary: RowSummary, config: StudyStage) -> list[str]:
    info = config.rows[summary.row]
    compared = student.against_method.get(summary.row)
    return [
        info.value or info.label,
        markdown.rate(info.learning_rates.get(student.student)),
        str(summary.runs),
        *(markdown.estimate(summary.scores[name]) for name in config.benchmarks),
        markdown.estimate(summary.retention),
        markdown.plain(summary.weight_distance),
        *(
            "" if compared is None else markdown.signed(compared.differences[name])
            for name in config.benchmarks
        ),
    ]


def grid_table(student: str, config: StudyStage) -> list[str]:
    """Validation accuracies at every rate; the chosen rate is bold, and flagged at an edge."""
    lines = []
    for row, by_rate in config.grid.get(student, {}).items():
        chosen = chosen_rate(student, row, config)
        rates = sorted(by_rate, key=float)
        for rate in rates:
            is_chosen = chosen is not None and float(rate) == chosen
            at_edge = is_chosen and len(rates) > 1 and rate in (rates[0], rates[-1])
            lines.append(
                [
                    config.label(row),
                    rate_cell(float(rate), is_chosen, at_edge),
                    *grid_cells(by_rate[rate], config.benchmarks),
                ]
            )
    head = ["method", "lr", *config.benchmarks, "harmonic mean"]
    if not lines:
        return []
    return [*markdown.table(head, lines, left=2), *off_grid(student, config)]


def chosen_rate(student: str, row: str, config: StudyStage) -> float | None:
    return config.rows[row].learning_rates.get(student) if row in config.rows else None


def rate_cell(rate: float, is_chosen: bool, at_edge: bool) -> str:
    text = markdown.bold(markdown.rate(rate)) if is_chosen else markdown.rate(rate)
    return f"{text} (edge of the grid)" if at_edge else text


def grid_cells(scores: Accuracies, benchmarks: Sequence[str]) -> list[str]:
    known = [scores[name] for name in benchmarks if name in scores]
    by_rule = overall(scores) if len(known) == len(benchmarks) else None
    return [
        *(markdown.plain(scores.get(name)) for name in benchmarks),
        markdown.plain(by_rule),
    ]


def off_grid(student: str, config: StudyStage) -> list[str]:
    """A line for each row whose rate is none of its grid's."""
    lines = []
    for row, by_rate in config.grid[student].items():
        chosen = chosen_rate(student, row, config)
        if chosen is not None and chosen not in {float(rate) for rate in by_rate}:
            lines.append(
                f"- {config.label(row)} was trained at {markdown.rate(chosen)}, off its grid."
            )
    return ["", *lines] if lines else []


def training_table(student: StudentAnalysis, config: StudyStage) -> list[str]:
    """Steps, rows and seconds of the trainings, means over the runs."""
    lines = [
        [
            config.label(row),
            str(found.runs),
            f"{found.steps:.0f}",
            f"{found.rows:.0f}",
            markdown.plain(found.seconds, 1),
        ]
        for row, summary in student.rows.items()
        if (found := summary.training) is not None
    ]
    head = ["method", "trainings", "steps", "rows", "seconds"]
    return markdown.table(head, lines) if lines else []
