"""Plan of a study: `conf/studies/NAME.yaml` as settings of every cell.

A row is a method under some settings; a cell is a row on one student, one domain and one seed. The
plan knows nothing of how cells are run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator, model_validator

from raft_core.app.settings import CONF, Settings, conf_file, load_settings
from raft_core.config.base import FrozenConfig, Seed
from raft_core.config.layers import Layer, read_yaml, readable
from raft_core.distill.config import LearningRate, MethodConfig
from raft_core.errors import InputError
from raft_core.evaluation.study.config import BASE, Cell, Group, RowInfo

STUDIES = CONF / "studies"


class PlanRow(FrozenConfig):
    """One row of a study.

    `method` lacks a learning rate: it is chosen from the grid, taken from another row, or given.
    """

    label: str
    method: dict[str, Any]
    set: tuple[str, ...] = Field((), description="overrides on the profile, section.field=value")
    rate_of: str | None = Field(None, description="the row whose learning rate this one takes")
    learning_rate: LearningRate | None = Field(None, description="a rate that is not chosen")
    groups: tuple[Group, ...] = ("main",)
    sweep: str | None = None
    value: str | None = None
    note: str = ""
    ablation: bool = Field(False, description="only on the plan's `ablations`")

    @field_validator("method")
    @classmethod
    def _is_a_method(cls, value: dict[str, Any]) -> dict[str, Any]:
        MethodConfig.model_validate(value | {"learning_rate": 1.0})
        return value

    def with_rate(self, learning_rate: float) -> MethodConfig:
        """Return the method at this learning rate."""
        return MethodConfig.model_validate(self.method | {"learning_rate": learning_rate})


class PlanStudent(FrozenConfig):
    """A model that is trained, on all of the plan's domains or on some."""

    set: tuple[str, ...] = Field((), description="overrides on the profile, section.field=value")
    domains: tuple[str, ...] | None = None


class Scope(FrozenConfig):
    """Students and domains on which ablations run."""

    students: tuple[str, ...]
    domains: tuple[str, ...]


class StudyPlan(FrozenConfig):
    """A study: students x domains x seeds x rows, and how they are compared."""

    title: str
    profile: str
    set: tuple[str, ...] = Field((), description="overrides on the profile, section.field=value")
    students: dict[str, PlanStudent]
    domains: dict[str, str] = Field(
        description="name -> data file; a {seed} in it makes every seed a domain of its own"
    )
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    rates: Annotated[tuple[LearningRate, ...], Field(min_length=1)]
    rate_domains: tuple[str, ...] = Field(
        description="where rates are chosen, on the first seed; a student takes those that it has"
    )
    rows: dict[str, PlanRow]
    ablations: Scope
    baseline: str
    method: str
    pairs: tuple[tuple[str, str], ...] = ()
    cluster_pattern: str | None = None

    @model_validator(mode="after")
    def _names_are_known(self) -> StudyPlan:
        named = {row.rate_of for row in self.rows.values()} - {None}
        named |= {self.baseline, self.method, *(row for pair in self.pairs for row in pair)}
        _require("rows", named - {BASE}, self.rows)
        _require("domains", {*self.rate_domains, *self.ablations.domains}, self.domains)
        for name, student in self.students.items():
            _require("domains", set(student.domains or ()), self.domains)
            if not self.rate_domains_of(name):
                raise ValueError(f"students.{name}: none of its domains is in rate_domains")
        _require("students", set(self.ablations.students), self.students)
        if BASE in self.rows:
            raise ValueError("rows: 'base' is the student before any training")
        given = [n for n, r in self.rows.items() if r.rate_of and r.learning_rate]
        if given:
            raise ValueError(f"rows {given}: give rate_of or learning_rate, not both")
        chained = [n for n, r in self.rows.items() if r.rate_of and self.rows[r.rate_of].rate_of]
        if chained:
            raise ValueError(f"rows {chained}: rate_of must name a row with a rate of its own")
        return self

    @property
    def seeded(self) -> bool:
        """Whether every seed has facts of its own."""
        return any("{seed}" in data for data in self.domains.values())

    def domains_of(self, student: str) -> tuple[str, ...]:
        """Return the domains that a student is trained on."""
        return self.students[student].domains or tuple(self.domains)

    def rate_domains_of(self, student: str) -> tuple[str, ...]:
        """Return the domains on which a student's learning rates are chosen."""
        own = self.domains_of(student)
        return tuple(domain for domain in self.rate_domains if domain in own)

    def rate_row(self, row: str) -> str:
        """Return the row that `row` takes its learning rate from."""
        return self.rows[row].rate_of or row

    def rate(self, row: str, chosen: Mapping[str, float]) -> float:
        """Return the row's learning rate, where `chosen` has those of the grid."""
        return self.rows[row].learning_rate or chosen[self.rate_row(row)]

    def cells(self, pattern: str = "*") -> list[Cell]:
        """Return all cells, the base first, or those whose name fits a pattern (`*/law/0/*`)."""
        return [cell for cell in self._cells() if fnmatchcase(cell.name, pattern)]

    def _cells(self) -> Iterator[Cell]:
        for row in (BASE, *self.rows):
            for seed in self.seeds:
                for student in self.students:
                    for domain in self.domains_of(student):
                        if self._has(student, domain, row):
                            yield Cell(student=student, domain=domain, seed=seed, row=row)

    def _has(self, student: str, domain: str, row: str) -> bool:
        if row == BASE or not self.rows[row].ablation:
            return True
        return student in self.ablations.students and domain in self.ablations.domains

    def settings(self, cell: Cell, learning_rate: float | None = None) -> Settings:
        """Return the pipeline's settings for a cell; the base needs no learning rate."""
        row = self.rows.get(cell.row)
        overrides = [
            f"domain.name={cell.domain}",
            f"domain.data.path={self.domains[cell.domain].replace('{seed}', str(cell.seed))}",
            f"seed={cell.seed}",
            *self.set,
            *self.students[cell.student].set,
            *(row.set if row else ()),
        ]
        settings = load_settings(self.profile, overrides=overrides)
        if row is None or learning_rate is None:
            return settings
        return settings.model_copy(update={"methods": {cell.row: row.with_rate(learning_rate)}})

    def row_info(self, rates: dict[str, dict[str, float]]) -> dict[str, RowInfo]:
        """Return the rows as the study's tables show them; `rates` is student -> row -> rate."""
        infos = {BASE: RowInfo(label="base", groups=("main",), trained=False)}
        for name, row in self.rows.items():
            own = {
                student: self.rate(name, chosen)
                for student, chosen in rates.items()
                if row.learning_rate or self.rate_row(name) in chosen
            }
            infos[name] = RowInfo(
                label=row.label,
                groups=row.groups,
                sweep=row.sweep,
                value=row.value,
                note=row.note,
                learning_rates=own,
            )
        return infos


def _require(what: str, named: set[Any], known: Any) -> None:
    if unknown := sorted(named - set(known)):
        raise ValueError(f"{what} has no {', '.join(unknown)}; it has {', '.join(known)}")


def load_plan(name: str) -> StudyPlan:
    """Read the plan `conf/studies/NAME.yaml`, or that of a file.

    Raises:
        InputError: with the file, the field and the remedy.
    """
    file = conf_file(name, STUDIES, "study")
    values = read_yaml(file)
    try:
        return StudyPlan.model_validate(values)
    except ValidationError as error:
        raise InputError(readable(error, [Layer(str(file), values)])) from None


def written_beside(name: str) -> str:
    """Return what a person wrote about the study's results, in NAME.md beside its plan."""
    notes: Path = conf_file(name, STUDIES, "study").with_suffix(".md")
    return notes.read_text(encoding="utf-8") if notes.is_file() else ""
