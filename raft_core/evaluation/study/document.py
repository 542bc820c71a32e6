"""The study as one page of Markdown; what was not measured has no section."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from raft_core.evaluation.study import setting_tables, tables
from raft_core.evaluation.study.analysis import Analysis, StudentAnalysis
from raft_core.evaluation.study.config import StudyStage
from raft_core.evaluation.study.results import Results

FIGURE_FOLDER = "study"
PER_DOMAIN = "Domains"
TableOf = Callable[[StudentAnalysis], list[str]]
Figures = Mapping[str, Sequence[tuple[str, str]]]


def as_markdown(results: Results, analysis: Analysis, figures: Figures) -> str:
    """The document. `figures` maps a title to (student, file name) of what was drawn."""
    config = results.config
    lines = [f"# {config.title}", "", *how_it_was_made(results)]
    for title, intro, table in sections(config):
        lines += by_student(title, intro, table, analysis)
        if title == PER_DOMAIN:
            lines += section(
                "Relative gains", gains_intro(config), tables.gains_table(analysis, config)
            )
    lines += figure_section(figures)
    if config.diagnostics:
        lines += section("What the study shows", "", [config.diagnostics.strip()])
    lines += section("How to read it", "", how_to_read(config))
    return "\n".join(lines)


def sections(config: StudyStage) -> list[tuple[str, str, TableOf]]:
    """Title, introduction and table of every section that has one table a student."""
    baseline, method = config.label(config.baseline), config.label(config.method)
    main = config.grouped("main")
    every_other = [row for row in config.rows if row != config.baseline]
    return [
        ("Scores", "", lambda s: tables.scores_table(s, main, config)),
        (
            "Differences to the baseline",
            f"Accuracy minus that of {baseline}, on the same rows of the same runs.",
            lambda s: tables.paired_table(s.against_baseline, every_other, config),
        ),
        (
            PER_DOMAIN,
            "Means over seeds; the best of a domain is bold.",
            lambda s: tables.domains_table(s, config),
        ),
        (
            "Ladder",
            "Every rung adds one thing to the rung above it.",
            lambda s: setting_tables.ladder_table(s, config),
        ),
        (
            "Balance of the losses",
            "Ratios are geometric means over all logged steps and runs.",
            lambda s: setting_tables.balance_table(s, config),
        ),
        *(
            (
                f"Sweep of {sweep}",
                f"Differences are to {method} at its own setting, on the runs that both have.",
                lambda s, sweep=sweep: setting_tables.sweep_table(s, sweep, config),
            )
            for sweep in config.sweeps()
        ),
        (
            "Further pairs",
            "Accuracy of the first minus that of the second.",
            lambda s: tables.pairs_table(s, config),
        ),
        (
            "Learning rates",
            "Validation accuracies, means over the grid's domains; the chosen rate is bold.",
            lambda s: setting_tables.grid_table(s.student, config),
        ),
        (
            "Training",
            "Means over the trainings; seconds are of the whole stage.",
            lambda s: setting_tables.training_table(s, config),
        ),
    ]


def section(title: str, intro: str, body: Sequence[str]) -> list[str]:
    """A section, or nothing where it has no body."""
    if not body:
        return []
    return [f"## {title}", "", *([intro, ""] if intro else []), *body, ""]


def by_student(title: str, intro: str, table: TableOf, analysis: Analysis) -> list[str]:
    """A section with one table a student; with a single student it needs no name."""
    body: list[str] = []
    for student in analysis.students:
        if lines := table(student):
            named = [f"### {student.student}", ""] if len(analysis.students) > 1 else []
            body += [*named, *lines, ""]
    return section(title, intro, body[:-1])


def how_it_was_made(results: Results) -> list[str]:
    config = results.config
    lines = ["```", config.command, "```", "", f"{cell_count(results)}{time_spent(results)}"]
    versions = ", ".join(f"{name} {version}" for name, version in config.environment.items())
    if versions:
        lines += ["", f"Environment: {versions}."]
    if results.missing:
        lines += ["", f"Not measured: {', '.join(results.missing)}."]
    if undecided := undecided_cells(results):
        lines += ["", f"The panel could decide on no answer: {', '.join(undecided)}."]
    return section("How it was made", "", lines)


def cell_count(results: Results) -> str:
    cells = list(results.cells)
    kinds: dict[str, set[str] | set[int]] = {
        "students": {cell.student for cell in cells},
        "domains": {cell.domain for cell in cells},
        "seeds": {cell.seed for cell in cells},
        "rows": {cell.row for cell in cells},
    }
    counts = ", ".join(
        f"{len(found)} {kind if len(found) != 1 else kind[:-1]}" for kind, found in kinds.items()
    )
    return f"{len(cells)} of {len(results.config.cells)} cells were measured: {counts}."


def time_spent(results: Results) -> str:
    if not results.seconds:
        return ""
    return (
        f" Training these and scoring their answers took {results.seconds:.0f} seconds in all; "
        "the trainings of the grid of rates and the refinement come on top."
    )


def undecided_cells(results: Results) -> list[str]:
    return [
        f"{cell.name} ({name})"
        for cell, result in results.cells.items()
        for name, scored in result.scored.items()
        if scored.undecided == len(scored.ids)
    ]


def gains_intro(config: StudyStage) -> str:
    return (
        f"Accuracy of {config.label(config.method)} / accuracy of {config.label(config.baseline)} "
        "- 1, over the runs that both have."
    )


def figure_section(figures: Figures) -> list[str]:
    body: list[str] = []
    for title, drawn in figures.items():
        if drawn:
            links = [f"![{title}, {student}]({FIGURE_FOLDER}/{name})" for student, name in drawn]
            body += [f"### {title}", "", *(line for link in links for line in (link, ""))]
    return section("Figures", "", body[:-1])


def how_to_read(config: StudyStage) -> list[str]:
    retained = " and ".join(config.retained)
    facts = (
        "rows of one cluster (paraphrases of one fact) are drawn together"
        if config.cluster_pattern
        else "every row is a cluster of its own"
    )
    columns = {
        "runs": "trained models, one a domain and seed, that a line averages, all with one weight",
        "lr": "learning rate, chosen on validation rows",
        ", ".join(config.benchmarks): "mean share of right answers on the test rows",
        "retention": f"mean over runs and over {retained} of score / the untrained student's score",
        "drift": "mean over weight tensors and runs of ||W - W0|| / ||W0||, W0 being the base",
        "Δ": "difference of mean accuracies on the same rows; * where the interval excludes 0",
        "p": "McNemar's exact test on the rows of all runs (in brackets: rows that only the first "
        "has right : rows that only the other has right). It takes rows for independent of each "
        "other, so it is too small where they are not; the intervals do not take them so",
        "SFT / KL, SFT / (lambda KL)": "ratio of the two losses before and after the balance; at 1 "
        "both pull alike",
        "harmonic mean": "of the validation accuracies: the rule by which rates are chosen",
    }
    paragraph = (
        f"Intervals are 95% percentile intervals of a bootstrap on two levels with "
        f"{config.resamples} resamples and a fixed seed: each draws runs with replacement, and "
        f"within them clusters of rows with replacement; {facts}, and runs that answer the same "
        "questions share the draw, since repeating a question over seeds makes no new question. "
        "With a single run only clusters are drawn, so the interval says nothing of other seeds. "
        "Intervals are not corrected for the number of comparisons. Two lines of a table with "
        "different numbers of runs are compared by their differences, not by their scores."
    )
    return [*(f"- **{name}**: {said}." for name, said in columns.items() if name), "", paragraph]
