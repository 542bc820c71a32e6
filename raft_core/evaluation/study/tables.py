"""The tables of the comparison: scores, differences to the baseline, domains, relative gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raft_core.evaluation import markdown
from raft_core.evaluation.study.analysis import Analysis, Comparison, StudentAnalysis
from raft_core.evaluation.study.config import StudyStage


def scores_table(student: StudentAnalysis, rows: Sequence[str], config: StudyStage) -> list[str]:
    """Rate, runs, scores, retention and drift of the named rows; empty where none was measured."""
    measured = [student.rows[row] for row in rows if row in student.rows]
    if not measured:
        return []
    head = ["method", "lr", "runs", *config.benchmarks, "retention", "drift"]
    lines = []
    for summary in measured:
        info = config.rows[summary.row]
        lines.append(
            [
                info.label,
                markdown.rate(info.learning_rates.get(student.student)),
                str(summary.runs),
                *(markdown.estimate(summary.scores[name]) for name in config.benchmarks),
                markdown.estimate(summary.retention),
                markdown.plain(summary.weight_distance),
            ]
        )
    return [*markdown.table(head, lines), *notes(rows, config)]


def notes(rows: Sequence[str], config: StudyStage) -> list[str]:
    """The notes of the rows, below their table."""
    written = [f"- {config.label(row)}: {config.rows[row].note}" for row in rows]
    said = [line for line, row in zip(written, rows, strict=True) if config.rows[row].note]
    return ["", *said] if said else []


def difference_head(benchmarks: Sequence[str]) -> list[str]:
    return [title for name in benchmarks for title in (f"Δ {name}", "p")]


def difference_cells(comparison: Comparison, benchmarks: Sequence[str]) -> list[str]:
    """The difference with its interval, and the p of McNemar's test, for every benchmark."""
    cells = []
    for name in benchmarks:
        test = comparison.tests[name]
        cells.append(markdown.signed(comparison.differences[name]))
        cells.append(f"{markdown.p_value(test.p)} ({test.a_only}:{test.b_only})")
    return cells


def paired_table(
    comparisons: Mapping[str, Comparison], rows: Sequence[str], config: StudyStage
) -> list[str]:
    """Named rows against one other; empty where none can be compared."""
    found = [comparisons[row] for row in rows if row in comparisons]
    lines = [
        [config.label(c.a), str(c.runs), *difference_cells(c, config.benchmarks)] for c in found
    ]
    head = ["method", "runs", *difference_head(config.benchmarks)]
    return markdown.table(head, lines) if lines else []


def pairs_table(student: StudentAnalysis, config: StudyStage) -> list[str]:
    lines = [
        [
            f"{config.label(c.a)} - {config.label(c.b)}",
            str(c.runs),
            *difference_cells(c, config.benchmarks),
        ]
        for c in student.pairs
    ]
    head = ["pair", "runs", *difference_head(config.benchmarks)]
    return markdown.table(head, lines) if lines else []


def domains_table(student: StudentAnalysis, config: StudyStage) -> list[str]:
    """Domain x main row, a cell being the benchmarks' means over seeds; the best is bold.

    Below it, for every domain, which rows are above the method.
    """
    rows = [
        row
        for row in config.grouped("main")
        if any(row in measured for measured in student.domains.values())
    ]
    if not rows:
        return []
    lines = [
        [domain, *(domain_cell(measured, row, config.benchmarks) for row in rows)]
        for domain, measured in student.domains.items()
    ]
    table = markdown.table(["domain", *(config.label(row) for row in rows)], lines)
    return [*table, "", f"Cells: {' / '.join(config.benchmarks)}.", *above_method(student, config)]


def domain_cell(
    measured: Mapping[str, Mapping[str, float]], row: str, benchmarks: Sequence[str]
) -> str:
    """`0.921 / **0.989** / 0.883`; bold is what no other row of the domain exceeds as shown."""
    if row not in measured:
        return ""
    shown = []
    for name in benchmarks:
        text = markdown.plain(measured[row][name])
        best = markdown.plain(max(scores[name] for scores in measured.values()))
        shown.append(markdown.bold(text) if text == best else text)
    return " / ".join(shown)


def above_method(student: StudentAnalysis, config: StudyStage) -> list[str]:
    """One line a domain that names every main row above the method, with both accuracies."""
    label, lines = config.label(config.method), []
    for domain, measured in student.domains.items():
        if config.method not in measured:
            continue
        said = []
        for name in config.benchmarks:
            own = measured[config.method][name]
            above = [
                f"{config.label(row)} {scores[name]:.3f}"
                for row, scores in measured.items()
                if scores[name] > own
            ]
            if above:
                said.append(f"{name} ({own:.3f}): {', '.join(above)}")
        lines.append(f"- {domain}: {'; '.join(said) or 'none'}")
    return ["", f"Rows above {label} ({label}'s own accuracy in brackets):", "", *lines] * bool(
        lines
    )


def gains_table(analysis: Analysis, config: StudyStage) -> list[str]:
    """Relative gains of the method over the baseline, beside the paper's."""
    if not analysis.mean_gains:
        return []
    lines = [
        [student.student, *(markdown.percent(student.gains[name]) for name in config.benchmarks)]
        for student in analysis.students
        if student.gains
    ]
    if len(lines) > 1:
        means = (markdown.percent(analysis.mean_gains[name]) for name in config.benchmarks)
        lines.append(["mean of the students", *means])
    if any(name in config.paper_gains for name in config.benchmarks):
        lines.append(["the paper", *(paper_gain(name, config) for name in config.benchmarks)])
    return markdown.table(["student", *config.benchmarks], lines)


def paper_gain(benchmark: str, config: StudyStage) -> str:
    known = config.paper_gains.get(benchmark)
    return "" if known is None else f"{known.gain:+.1%} ({known.benchmark})"
