"""The report's sections below its table: differences between methods, retention, the panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raft_core.evaluation.independence import PanelMember
from raft_core.evaluation.markdown import estimate, p_value, plain, signed, table
from raft_core.evaluation.metrics import Estimate
from raft_core.evaluation.report_config import ReportStage

Rows = Sequence[Mapping[str, Any]]


def retention_section(rows: Rows, retained: Sequence[str]) -> list[str]:
    """Score / base score of every method on each retained benchmark."""
    lines = []
    for row in rows:
        kept = row["retention_by_benchmark"]
        if kept is not None:
            shown = [figure(kept[name]) for name in retained]
            lines.append([row["label"], *map(estimate, shown)])
    if not lines or len(retained) < 2:
        return []
    return ["## Retention", "", *table(["method", *retained], lines), ""]


def difference_section(compared: Rows, labels: Mapping[str, str]) -> list[str]:
    """One line a pair of methods and benchmark."""
    if not compared:
        return []
    lines = [
        [
            f"{labels[each['a']]} - {labels[each['b']]}",
            each["benchmark"],
            signed(figure(each["difference"])),
            f"{each['mcnemar']['a_only']} : {each['mcnemar']['b_only']}",
            p_value(each["mcnemar"]["p"]),
            plain(each["detectable"]),
        ]
        for each in compared
    ]
    head = ["pair", "benchmark", "difference", "only first : only second", "p", "visible from"]
    return [
        "## Differences",
        "",
        *table(head, lines, left=2),
        "",
        "Accuracy of the first minus that of the second on the same rows, with the 95% interval "
        "of a paired bootstrap; * where it excludes 0. *Only first : only second* counts the rows "
        "that one of the two alone has right, and p is McNemar's exact test on them. *Visible "
        "from* is the smallest true difference that so many rows with so many such pairs show in "
        "four of five tests at 5% (Connor 1987): a smaller one may be there unseen. Test and "
        "bound count rows as independent. Nothing is corrected for the number of comparisons, "
        "and one training a method says nothing of other seeds.",
        "",
    ]


def ifeval_section(rows: Rows, benchmarks: Sequence[str]) -> list[str]:
    """IFEval's four figures of every method, where there is such a benchmark."""
    lines, splitters = [], set()
    for name in benchmarks:
        for row in rows:
            levels = row["scores"][name].get("ifeval")
            if levels is None:
                continue
            splitters.add(levels["sentence_splitter"])
            lines.append(
                [
                    row["label"],
                    name,
                    *(estimate(figure(levels[f"prompt_{how}"])) for how in ("strict", "loose")),
                    *(
                        f"{levels[f'instruction_{how}']['value']:.3f}"
                        for how in ("strict", "loose")
                    ),
                ]
            )
    if not lines:
        return []
    head = ["method", "benchmark", "prompt strict", "prompt loose", "each strict", "each loose"]
    return [
        "## Instructions",
        "",
        *table(head, lines, left=2),
        "",
        "A prompt is followed when all its instructions are; loose forgives a first line, a last "
        "line and asterisks (Zhou et al. 2023). *Each* counts instructions; those of one prompt "
        "depend on each other, so these shares have no interval. Sentences are split by "
        f"{' and '.join(sorted(splitters))}.",
        "",
    ]


def panel_section(rows: Rows, config: ReportStage) -> list[str]:
    """Each judge's share of right answers, and how far the judges agree."""
    members = config.panel
    judged = [
        (row["label"], name, row["scores"][name]["agreement"])
        for row in rows
        for name in config.benchmarks
        if judges_of(row["scores"][name]) == [member.judge for member in members]
    ]
    names = [name_of(member) for member in members]
    lines = [
        [
            label,
            name,
            *(f"{judge['correct']:.3f}" for judge in agreement["judges"]),
            plain(agreement["kappa"]),
            plain(agreement["alpha"]),
            f"{agreement['unanimous']:.3f}",
            f"{max(judge['cannot_tell'] for judge in agreement['judges']):.3f}",
        ]
        for label, name, agreement in judged
    ]
    head = ["method", "benchmark", *names, "kappa", "alpha", "unanimous", "cannot tell"]
    rule = (
        "An answer is right when more than half of the whole panel votes correct: a tie is not, "
        "and a judge that fails or cannot tell counts like one that votes against."
    )
    section = ["## Panel", "", f"Judges: {', '.join(names)}. {rule}", ""]
    section += [line for w in config.warnings for line in (f"**Warning**: {w}.", "")]
    if lines and len(names) > 1:
        section += [
            *table(head, lines, left=2),
            "",
            "Shares of answers that a judge calls correct. Kappa (Fleiss 1971) takes *cannot "
            "tell* for a verdict of its own, alpha (Krippendorff, nominal) for a missing one; "
            "neither stands where agreement beyond chance is undefined, as where all verdicts "
            "are the same. Unanimous is the share of answers with one verdict; *cannot tell* the "
            "largest share of any judge.",
            "",
        ]
    return section


def judges_of(score: Mapping[str, Any]) -> list[str]:
    return [judge["judge"] for judge in score["agreement"]["judges"]]


def name_of(member: PanelMember) -> str:
    return f"{member.judge} ({member.model})" if member.model else member.judge


def figure(bounds: Mapping[str, float] | None) -> Estimate | None:
    """What report.json holds of an estimate."""
    return None if bounds is None else Estimate(**bounds)
