"""What earlier runs of this home took, from the records of its store.

A rate is kept only of the same work: the same model by its content, and for a training the same
kind of losses and batch. Stages that found completions in the cache look faster than they are, so
of several rates the lowest stands. Runs that shared the machine are in it as they were.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from raft_core.config.base import fingerprint
from raft_core.cost.cached import records_of
from raft_core.data.records import read_jsonl
from raft_core.distill.config import DistillStage
from raft_core.errors import InputError
from raft_core.store.record import Record

NAMES = {"rewrite": "rewrites.jsonl", "respond": "responses.jsonl"}
TRAINING_SIZES = (
    *("batch_size", "gradient_accumulation", "adapter", "dtype", "gradient_checkpointing"),
    *("rollout", "rollout_engine", "rollout_uses", "max_prompt_tokens"),
)
# Of a stage with its start: less than this share of its time is never called work.
LEAST_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Rate:
    """Units of work a second, beside what starting took, from so many earlier stages."""

    per_second: float
    stages: int

    def told(self, unit: str) -> str:
        runs = "stage" if self.stages == 1 else "stages"
        return f"{self.per_second:,.0f} {unit}/s in {self.stages} earlier {runs} here"


class History:
    """The store's records, read when they are asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def tokens(self, stage: str, generator: Any, start: float) -> Rate | None:
        """Tokens that a stage with this generator has written a second."""
        written = self._written(stage, generator)
        return slowest([(tokens, record.seconds) for record, _, tokens in written], start)

    def length(self, stage: str, generator: Any, sampling: Any) -> float | None:
        """The mean tokens of what this generator has written under this sampling."""
        alike = fingerprint(sampling)
        found = [
            (rows, tokens)
            for record, rows, tokens in self._written(stage, generator)
            if record.identity.get("sampling") == alike
        ]
        rows = sum(rows for rows, _ in found)
        return sum(tokens for _, tokens in found) / rows if rows else None

    def _written(self, stage: str, generator: Any) -> list[tuple[Record, int, int]]:
        """Earlier stages with their completions and tokens.

        A trained model answers under the base's settings, and its size is the base's.
        """
        records, found = records_of(self._root, stage), []
        wanted = identity_of(generator) if records else None
        for record, folder in records:
            if wanted and record.identity.get("generator") == wanted:
                tokens = [row["tokens"] for row in read_jsonl(folder / NAMES[stage])]
                found.append((record, len(tokens), sum(tokens)))
        return found

    def rounds(self, fuse: Any) -> list[int]:
        """Candidates of each row that these rounds of fusion were made for."""
        counts = []
        for _, folder in self._fusions(fuse):
            rows = read_jsonl(folder / "lineage.jsonl")
            counts += [len(row["candidates"]) for row in rows if row["candidates"]]
        return counts

    def fusions(self, fuse: Any, start: float) -> Rate | None:
        """Candidates written and graded a second."""
        found = []
        for record, folder in self._fusions(fuse):
            count = sum(len(row["candidates"]) for row in read_jsonl(folder / "lineage.jsonl"))
            found.append((count, record.seconds))
        return slowest(found, start)

    def _fusions(self, fuse: Any) -> list[tuple[Record, Path]]:
        records = records_of(self._root, "fuse")
        wanted = identity_of(fuse) if records else None
        return [(r, folder) for r, folder in records if wanted and r.identity["fuse"] == wanted]

    def rows(self, stage: str, start: float) -> Rate | None:
        """Rows that a stage without a generator took in a second."""
        found = []
        for record, folder in records_of(self._root, stage):
            counts = json.loads((folder / "counts.json").read_text())
            found.append((counts["in"], record.seconds))
        return slowest(found, start)

    def visits(self, config: DistillStage, start: float) -> Rate | None:
        """Rows that a training like this one has visited a second."""
        found = []
        for record, folder in self._trainings(config):
            steps = json.loads((folder / "summary.json").read_text())["steps"]
            found.append((steps * config.distill.batch_size, record.seconds))
        return slowest(found, start)

    def rollout_length(self, config: DistillStage) -> float | None:
        """The mean tokens of the domain's rollouts in trainings like this one."""
        lengths = [
            point["rollout_tokens"]
            for _, folder in self._trainings(config)
            for point in read_jsonl(folder / "curves.jsonl")
            if "rollout_tokens" in point
        ]
        return fmean(lengths) if lengths else None

    def _trainings(self, config: DistillStage) -> list[tuple[Record, Path]]:
        records = records_of(self._root, "distill")
        identity = identity_of(config) if records else None
        if identity is None:
            return []
        kind = kind_of_training(identity)
        return [(r, folder) for r, folder in records if kind_of_training(r.identity) == kind]

    def seconds(self, stage: str) -> float | None:
        """The mean time of a stage that depends on little."""
        times = [record.seconds for record, _ in records_of(self._root, stage)]
        return fmean(times) if times else None


def identity_of(config: Any) -> Any:
    """Its fingerprint, or None where a model is not to be found from here."""
    try:
        return fingerprint(config)
    except InputError:
        return None


def slowest(found: Iterable[tuple[float, float]], start: float) -> Rate | None:
    """The lowest of (units, seconds), the time of starting left out."""
    rates = [
        units / max(seconds - start, LEAST_SHARE * seconds)
        for units, seconds in found
        if units and seconds > 0
    ]
    return Rate(min(rates), len(rates)) if rates else None


def kind_of_training(identity: Mapping[str, Any]) -> Any:
    """What decides how long a row takes, of a training's identity."""
    method, distill = identity.get("method", {}), identity.get("distill", {})
    rehearsal = method.get("rehearsal")
    return (
        identity.get("model"),
        method.get("distillation"),
        rehearsal and rehearsal.get("share"),
        [distill.get(name) for name in TRAINING_SIZES],
    )
