"""Everything that the study reads, loaded once: outcomes, curves and weight distances per cell."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from raft_core.data.records import read_jsonl
from raft_core.errors import InputError
from raft_core.evaluation.statistics import Floats, cluster
from raft_core.evaluation.study.config import BASE, Cell, StudyStage
from raft_core.store.record import read_record


@dataclass(frozen=True, slots=True)
class Scored:
    """One model's outcomes on a benchmark: 1 right, 0 wrong; `clusters` names each row's fact."""

    ids: tuple[str, ...]
    clusters: tuple[str, ...]
    correct_N: Floats
    undecided: int

    @property
    def accuracy(self) -> float:
        return float(self.correct_N.mean())


@dataclass(frozen=True, slots=True)
class CellResult:
    """What is known of a cell. Without a training there are no curves, distances or seconds."""

    cell: Cell
    scored: dict[str, Scored]
    curves: tuple[dict[str, float], ...]
    distances: dict[str, float]
    training: dict[str, int]
    seconds: float | None

    @property
    def weight_distance(self) -> float | None:
        """Mean relative distance of the weights from the base's."""
        return fmean(self.distances.values()) if self.distances else None


Matched = Sequence[tuple[CellResult, CellResult]]


@dataclass(frozen=True, slots=True)
class PairedOutcomes:
    """Outcomes of two rows on one benchmark, one entry a run."""

    a: list[Floats]
    b: list[Floats]
    clusters: list[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Results:
    """All measured cells; `seconds` is the time of all their stages that have a record."""

    config: StudyStage
    cells: dict[Cell, CellResult]
    seconds: float

    @property
    def students(self) -> list[str]:
        return list(dict.fromkeys(cell.student for cell in self.cells))

    @property
    def missing(self) -> list[str]:
        return [cell.name for cell in self.config.cells if cell not in self.cells]

    def domains(self, student: str) -> list[str]:
        return list(dict.fromkeys(c.domain for c in self.cells if c.student == student))

    def of(self, student: str, row: str, domain: str | None = None) -> list[CellResult]:
        """The runs of a row, of one domain or of all, in the order of the cells."""
        return [
            result
            for cell, result in self.cells.items()
            if (cell.student, cell.row) == (student, row) and domain in (None, cell.domain)
        ]

    def matched(self, student: str, a: str, b: str) -> list[tuple[CellResult, CellResult]]:
        """Runs of a with the run of b on the same domain and seed.

        The base is not trained, so any seed's measurement of it on the domain will do.
        """
        if a == BASE:
            return [(right, left) for left, right in self.matched(student, b, a)]
        pairs = [(left, self._partner(left.cell, b)) for left in self.of(student, a)]
        return [(left, right) for left, right in pairs if right is not None]

    def _partner(self, cell: Cell, row: str) -> CellResult | None:
        exact = self.cells.get(cell.model_copy(update={"row": row}))
        if exact is not None or row != BASE:
            return exact
        return next(iter(self.of(cell.student, BASE, cell.domain)), None)


def load_results(config: StudyStage, inputs: Mapping[str, Path]) -> Results:
    """Read all cells that have an `evaluate` input.

    Raises:
        InputError: there is none.
    """
    cells = {
        cell: load_cell(cell, config, inputs) for cell in config.cells if _is_there(cell, inputs)
    }
    if not cells:
        raise InputError("the study has no input 'evaluate.CELL'; run at least one cell")
    return Results(config, cells, total_seconds(inputs))


def _is_there(cell: Cell, inputs: Mapping[str, Path]) -> bool:
    return f"evaluate.{cell.name}" in inputs


def load_cell(cell: Cell, config: StudyStage, inputs: Mapping[str, Path]) -> CellResult:
    """One cell; of its training, whatever files are there."""
    scored = load_scored(inputs[f"evaluate.{cell.name}"], cell, config)
    trained = inputs.get(f"distill.{cell.name}")
    if trained is None:
        return CellResult(cell, scored, (), {}, {}, None)
    curves = trained / "curves.jsonl"
    # A pruned model's own artifact knows only how long the pruning took.
    record = read_record(inputs.get(f"training.{cell.name}", trained))
    return CellResult(
        cell,
        scored,
        tuple(read_jsonl(curves)) if curves.is_file() else (),
        _read_optional(trained / "weight_distance.json"),
        _read_optional(trained / "summary.json"),
        None if record is None else record.seconds,
    )


def _read_optional(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return values


def load_scored(evaluated: Path, cell: Cell, config: StudyStage) -> dict[str, Scored]:
    """Benchmark -> outcomes, from an `evaluate` artifact.

    A domain's own questions are named after it, and after the seed where seeds ask for other
    facts: equal ids are not the same question there.

    Raises:
        InputError: a benchmark has no row there.
    """
    scores = json.loads((evaluated / "scores.json").read_text())
    rows: dict[str, list[tuple[str, bool]]] = {name: [] for name in config.benchmarks}
    for row in read_jsonl(evaluated / "verdicts.jsonl"):
        if row["benchmark"] in rows:
            rows[row["benchmark"]].append((row["id"], row["correct"]))
    scored = {}
    for name, found in rows.items():
        if not found:
            raise InputError(f"benchmark '{name}': no verdict in '{evaluated}'")
        own = f"{cell.domain}/{cell.seed}/" if config.seeded_domains else f"{cell.domain}/"
        prefix = own if scores[name].get("kind") == "domain" else ""
        scored[name] = Scored(
            ids=tuple(f"{prefix}{row_id}" for row_id, _ in found),
            clusters=tuple(f"{prefix}{cluster(r, config.cluster_pattern)}" for r, _ in found),
            correct_N=np.array([correct for _, correct in found], dtype=float),
            undecided=scores[name].get("undecided", 0),
        )
    return scored


def total_seconds(inputs: Mapping[str, Path]) -> float:
    """Seconds of all artifacts with a record; one that several cells share counts once."""
    records = [read_record(folder) for folder in sorted(set(inputs.values()))]
    return sum(record.seconds for record in records if record is not None)


def paired_outcomes(matched: Matched, benchmark: str) -> PairedOutcomes:
    """The outcomes of matched runs on one benchmark.

    Raises:
        InputError: the two of a pair did not answer the same rows.
    """
    for left, right in matched:
        if left.scored[benchmark].ids != right.scored[benchmark].ids:
            raise InputError(
                f"benchmark '{benchmark}': '{left.cell.name}' and '{right.cell.name}' answered "
                "different rows; measure both with the same benchmark settings"
            )
    return PairedOutcomes(
        a=[left.scored[benchmark].correct_N for left, _ in matched],
        b=[right.scored[benchmark].correct_N for _, right in matched],
        clusters=[left.scored[benchmark].clusters for left, _ in matched],
    )
