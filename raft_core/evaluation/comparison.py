"""Methods against each other and against the base, on the rows that both answered.

Intervals are those of `statistics` for a single trained model: they speak of the questions, not of
what another seed would have trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raft_core.data.records import read_jsonl
from raft_core.errors import InputError
from raft_core.evaluation.statistics import (
    cluster,
    detectable_difference,
    mcnemar,
    paired_difference,
    retention,
)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """A model's answers to one benchmark, right or wrong, in its order; and each row's cluster."""

    ids: tuple[str, ...]
    correct: tuple[bool, ...]
    clusters: tuple[str, ...]


def read_outcomes(evaluated: Path, cluster_pattern: str | None) -> dict[str, Outcomes]:
    """Benchmark -> outcomes, from an `evaluate` artifact."""
    rows: dict[str, list[tuple[str, bool]]] = {}
    for row in read_jsonl(evaluated / "verdicts.jsonl"):
        rows.setdefault(row["benchmark"], []).append((row["id"], row["correct"]))
    return {
        name: Outcomes(
            ids=tuple(row_id for row_id, _ in found),
            correct=tuple(correct for _, correct in found),
            clusters=tuple(cluster(row_id, cluster_pattern) for row_id, _ in found),
        )
        for name, found in rows.items()
    }


def pairs(methods: Sequence[str], baseline: str, favourite: str) -> list[tuple[str, str]]:
    """Every method against the baseline, then the favourite against every other method."""
    against_baseline = [(method, baseline) for method in methods if method != baseline]
    if favourite not in methods or favourite == baseline:
        return against_baseline
    others = [method for method in methods if method not in {favourite, baseline}]
    return against_baseline + [(favourite, other) for other in others]


def compare(a: Outcomes, b: Outcomes) -> dict[str, Any]:
    """Accuracy of a minus that of b with its interval, McNemar's test, what the rows could show.

    Raises:
        InputError: the two answered different rows.
    """
    if a.ids != b.ids:
        raise InputError("two models answered different rows; measure both on the same benchmarks")
    test = mcnemar([a.correct], [b.correct])
    return {
        "rows": len(a.ids),
        "clusters": len(set(a.clusters)),
        "difference": asdict(paired_difference([a.correct], [b.correct], [a.clusters])),
        "mcnemar": asdict(test),
        "detectable": detectable_difference(len(a.ids), test.a_only + test.b_only),
    }


def comparisons(
    outcomes: Mapping[str, Mapping[str, Outcomes]],
    compared: Sequence[tuple[str, str]],
    benchmarks: Sequence[str],
) -> list[dict[str, Any]]:
    """One entry a pair of methods and benchmark; `outcomes` are by method and benchmark."""
    return [
        {"a": a, "b": b, "benchmark": name} | compare(outcomes[a][name], outcomes[b][name])
        for a, b in compared
        for name in benchmarks
    ]


def retained(
    model: Mapping[str, Outcomes], base: Mapping[str, Outcomes], benchmarks: Sequence[str]
) -> dict[str, Any] | None:
    """Mean over benchmarks of score / base score with its interval; None where a base score is 0,
    or too near to it for an interval.

    Raises:
        ValueError: the two answered different numbers of rows.
    """
    kept = retention(
        [[model[name].correct] for name in benchmarks],
        [[base[name].correct] for name in benchmarks],
        [[base[name].clusters] for name in benchmarks],
    )
    return None if kept is None else asdict(kept)
