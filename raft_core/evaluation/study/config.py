"""Settings of the study: which cells were measured, and how they are compared and named."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, model_validator

from raft_core.config.base import FrozenConfig
from raft_core.evaluation.config import ClusterPattern
from raft_core.execution.stage import Reads, Stage, StageConfig
from raft_core.store.record import RECORD

BASE = "base"
Group = Literal["main", "ladder", "balance", "sweep"]
Accuracies = dict[str, float]


class Cell(FrozenConfig):
    """One measured model: a student, trained on a domain with a seed as one row of the study.

    Row `base` is the student before any training.
    """

    student: str
    domain: str
    seed: int
    row: str

    @property
    def name(self) -> str:
        return f"{self.student}/{self.domain}/{self.seed}/{self.row}"


class RowInfo(FrozenConfig):
    """One row of the study: a method under some settings, and the tables that show it."""

    label: str
    groups: tuple[Group, ...] = ()
    sweep: str | None = Field(None, description="name of the setting that is varied")
    value: str | None = Field(None, description="its value, as the table shows it")
    note: str = ""
    learning_rates: dict[str, float] = Field({}, description="student -> its chosen rate")
    trained: bool = True


class PaperGain(FrozenConfig):
    """A relative gain that the paper reports, and what it was measured on there."""

    gain: float
    benchmark: str


PAPER_GAINS = {
    "domain": PaperGain(gain=0.232, benchmark="domain"),
    "general": PaperGain(gain=0.182, benchmark="MS-Bench"),
    "instructions": PaperGain(gain=0.102, benchmark="IFEval"),
}


class StudyStage(StageConfig):
    """Inputs: `evaluate.CELL` of every cell and, where something was trained, `distill.CELL`; of a
    pruned model also `training.CELL`, what it was before.

    A cell without its `evaluate` input counts as missing. `baseline`, `method` and `pairs` may name
    rows that a partial study lacks; what needs them is then left out.
    """

    title: str
    command: str = Field(description="what made the study, as one would type it")
    rows: dict[str, RowInfo] = Field(description="in the order of the tables")
    cells: tuple[Cell, ...]
    benchmarks: Annotated[tuple[str, ...], Field(min_length=1)]
    retained: tuple[str, ...] = Field(description="benchmarks whose scores should survive")
    baseline: str = Field(description="the row that all are compared with")
    method: str = Field("raft", description="the row that the study is about")
    pairs: tuple[tuple[str, str], ...] = Field((), description="further rows to be compared")
    cluster_pattern: ClusterPattern | None = None
    seeded_domains: bool = Field(
        False, description="every seed of a domain asks for other facts, under the same ids"
    )
    grid: dict[str, dict[str, dict[str, Accuracies]]] = Field(
        {}, description="student -> row -> rate -> benchmark -> validation accuracy"
    )
    resamples: Annotated[int, Field(gt=0)] = 2000
    diagnostics: str = Field("", description="Markdown for 'What the study shows'")
    environment: dict[str, str] = Field({}, description="name -> version")
    paper_gains: dict[str, PaperGain] = PAPER_GAINS

    def grouped(self, group: Group) -> list[str]:
        """Ids of the rows of a group, in order."""
        return [row for row, info in self.rows.items() if group in info.groups]

    def sweeps(self) -> dict[str, list[str]]:
        """Swept setting -> ids of its rows, in order."""
        found: dict[str, list[str]] = {}
        for row in self.grouped("sweep"):
            found.setdefault(self.rows[row].sweep or "", []).append(row)
        return found

    def label(self, row: str) -> str:
        """The row's name; of a sweep's row with the swept setting, as several share a label."""
        info = self.rows.get(row)
        if info is None:
            return row
        return f"{info.label}, {info.sweep} {info.value}" if info.sweep else info.label

    @model_validator(mode="after")
    def _is_consistent(self) -> StudyStage:
        _refuse("rows of cells that 'rows' lacks", {c.row for c in self.cells} - set(self.rows))
        _refuse("retained, but no benchmark", set(self.retained) - set(self.benchmarks))
        names = [cell.name for cell in self.cells]
        _refuse("cells listed twice", {name for name in names if names.count(name) > 1})
        _refuse(
            "sweep rows without 'sweep' or 'value'",
            {
                row
                for row in self.grouped("sweep")
                if not (self.rows[row].sweep and self.rows[row].value)
            },
        )
        return self

    def reads(self) -> Reads:
        return {
            "evaluate": ("scores.json", "verdicts.jsonl"),
            "distill": ("curves.jsonl", "weight_distance.json", "summary.json", RECORD),
            "training": (RECORD,),
        }


STUDY = Stage("study", 4, StudyStage, "raft_core.evaluation.study.study")


def _refuse(what: str, names: Iterable[str]) -> None:
    if listed := ", ".join(sorted(names)):
        raise ValueError(f"{what}: {listed}")
