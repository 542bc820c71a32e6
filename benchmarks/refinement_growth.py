"""Measure what prepare, rewrite, filter and fuse cost as the rows grow.

The encoder runs after or beside the writing.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.mini_rows import write_rows
from benchmarks.stage_runs import StageRuns, Took, note
from raft_core.app import pipeline
from raft_core.app.settings import Settings, load_settings
from raft_core.data.records import read_jsonl
from raft_core.execution.processes import StageProcesses
from raft_core.execution.shards import Shard, shards_for

STAGES = ("prepare", "rewrite", "filter", "fuse")
REWRITE_TO_FILTER = "rewrite to filter"


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one run over so many rows; as many shards at once as the profile lets."""

    rows: int
    seconds: Mapping[str, float]
    took: Mapping[str, Sequence[Took]]

    def work(self, stage: str) -> float:
        """Return the seconds of all shards together, without start, loading and end."""
        return sum(took.work for took in self.took[stage])

    def peak_mib(self, stage: str) -> float:
        """Return the memory of the shard that took most."""
        return max(took.peak_mib for took in self.took[stage])

    def out(self, stage: str) -> Path:
        """Return the folder that the first shard wrote."""
        return self.took[stage][0].out


def exponent(rows: Sequence[int], seconds: Sequence[float]) -> float:
    """Return the slope of a straight line through the logarithms, by least squares."""
    xs, ys = [math.log(n) for n in rows], [math.log(s) for s in seconds]
    x0, y0 = sum(xs) / len(xs), sum(ys) / len(ys)
    above = sum((x - x0) * (y - y0) for x, y in zip(xs, ys, strict=True))
    return above / sum((x - x0) ** 2 for x in xs)


class Refinement:
    """One run of the stages up to the fusion, in an empty home, as the tasks start them."""

    def __init__(self, folder: Path, rows: int, *overrides: str) -> None:
        folder.mkdir(parents=True)
        data = write_rows(folder / "rows.jsonl", rows)
        self.settings: Settings = load_settings("mini", overrides=overrides, data=str(data))
        self._folder, self._rows = folder, rows
        self._seconds: dict[str, float] = {}
        self._took: dict[str, Sequence[Took]] = {}

    def run(self, *, fuse: bool = True, ahead: bool = False) -> Cost:
        """Run the stages; `ahead` embeds what the filter compares as it comes, as a run does."""
        os.environ["RAFT_HOME"] = str(self._folder / "home")
        with StageProcesses(self.settings.runtime, pipeline.STAGES) as processes:
            self._runs = StageRuns(self._folder, self.settings.runtime, processes)
            self._warm(processes)
            self._prepare()
            self._rewrite_and_filter(ahead)
            if fuse:
                self._fuse()
        note(f"{self._rows} rows: { ({n: round(s, 1) for n, s in self._seconds.items()}) }")
        return Cost(self._rows, dict(self._seconds), dict(self._took))

    def _warm(self, processes: StageProcesses) -> None:
        """Run a small stage first, so that the server's imports count for none that is measured."""
        tiny = write_rows(self._folder / "tiny.jsonl", 60)
        settings = load_settings("mini", data=str(tiny))
        self._runs.run("prepare", settings.prepare_stage(), {}, "warm")

    def _prepare(self) -> None:
        begun = time.monotonic()
        took = self._runs.run("prepare", self.settings.prepare_stage(), {})
        self._note("prepare", begun, [took])
        self._prepared = {"prepare": took.out}
        rows = sum(1 for _ in read_jsonl(took.out / "train.jsonl"))
        self._shards = shards_for(rows, self.settings.rewrite.rows_per_shard)

    def _rewrite_and_filter(self, ahead: bool) -> None:
        begun, parallel = time.monotonic(), self.settings.runtime.parallel_stages
        with ThreadPoolExecutor(parallel) as slots, ThreadPoolExecutor(parallel) as beside:
            embedded = [beside.submit(self._embed, None)] if ahead else []
            rewrites = [slots.submit(self._rewrite, shard) for shard in self._shards]
            if ahead:
                embedded += [beside.submit(self._embed, rewrite) for rewrite in rewrites]
            rewritten = [rewrite.result()[1] for rewrite in rewrites]
            self._note("rewrite", begun, rewritten)
            for done in embedded:
                done.result()
        filtering = time.monotonic()
        inputs = {f"rewrite.{n:05d}": took.out for n, took in enumerate(rewritten)}
        config = self.settings.filter_stage()
        took = self._runs.run("filter", config, self._prepared | inputs)
        self._note("filter", filtering, [took])
        self._seconds[REWRITE_TO_FILTER] = time.monotonic() - begun
        self._filtered = took.out

    def _rewrite(self, shard: Shard) -> tuple[Shard, Took]:
        config = self.settings.rewrite_stage(shard)
        name = f"rewrite.{shard.index:05d}"
        return shard, self._runs.run("rewrite", config, self._prepared, name)

    def _embed(self, rewrite: Future[tuple[Shard, Took]] | None) -> Took:
        if rewrite is None:
            return self._runs.run("embed", self.settings.embed_stage(), self._prepared)
        shard, took = rewrite.result()
        inputs = self._prepared | {"rewrite": took.out}
        name = f"embed.{shard.index:05d}"
        return self._runs.run("embed", self.settings.embed_stage(shard), inputs, name)

    def _fuse(self) -> None:
        begun = time.monotonic()
        configs = [self.settings.fuse_stage(shard) for shard in self._shards]
        inputs = self._prepared | {"filter": self._filtered}
        self._note("fuse", begun, self._runs.run_shards("fuse", configs, inputs))

    def _note(self, stage: str, begun: float, took: Sequence[Took]) -> None:
        self._seconds[stage] = time.monotonic() - begun
        self._took[stage] = took
