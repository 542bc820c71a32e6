"""Which stages the store holds already: their keys are computed as a run would, and looked up.

A key is made of a stage's settings and of the keys before it, so no artifact is needed to know it.
What is looked at is the record and that its files are there; a run also checks their digests.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from raft_core.app.settings import Settings
from raft_core.app.stages import STAGES
from raft_core.config.base import FrozenConfig
from raft_core.config.runtime import RuntimeConfig
from raft_core.execution.shards import shards_for
from raft_core.refine.gather import SHARD, GatherStage
from raft_core.store.artifacts import ArtifactRef, StageSpec
from raft_core.store.record import Record, read_record

BASE = "base"
Specs = dict[str, list[StageSpec]]


def store_root(runtime: RuntimeConfig) -> Path:
    """The local folder of the store; what only a shared address holds is not looked for."""
    address = runtime.store_address
    return runtime.home_folder / "store" if "://" in address else Path(address).expanduser()


class RunKeys:
    """The specifications of a run's stages by what the flow calls them, shards together."""

    def __init__(self, settings: Settings, root: Path) -> None:
        self._settings, self._root = settings, root
        self.specs: Specs = {}

    def prepare(self) -> ArtifactRef:
        """The first stage, whose rows decide how many shards there are."""
        return self._ref("prepare", "prepare", self._settings.prepare_stage(), {})

    def all(self, prepared: ArtifactRef, train_rows: int) -> Specs:
        """Every stage of the flow, from the number of training rows on."""
        settings, start = self._settings, {"prepare": prepared}
        shards = shards_for(train_rows, settings.rewrite.rows_per_shard)
        rewrites = [
            self._ref("rewrite", "rewrite", settings.rewrite_stage(shard), start)
            for shard in shards
        ]
        parts = {f"rewrite.{n:05d}": ref for n, ref in enumerate(rewrites)}
        filtered = self._ref("filter", "filter", settings.filter_stage(), start | parts)
        kept = start | {"filter": filtered}
        fusions = [self._ref("fuse", "fuse", settings.fuse_stage(shard), kept) for shard in shards]
        pieces = {f"{SHARD}{n:05d}": ref for n, ref in enumerate(fusions)}
        fused = fusions[0]
        if len(fusions) > 1:
            fused = self._ref("gather", "gather", GatherStage(), start | pieces)
        lineage = start | parts | {"filter": filtered} | pieces
        self._ref("lineage", "lineage", settings.lineage_stage(), lineage)
        report = start | {"filter": filtered, "fuse": fused}
        report["evaluate.base"] = self._measured(BASE, prepared, None)
        for name in settings.methods:
            report[f"distill.{name}"] = self._trained(name, start, filtered, fused)
            trained = report[f"distill.{name}"]
            report[f"evaluate.{name}"] = self._measured(name, prepared, trained)
        self._ref("report", "report", settings.report_stage(), report)
        return self.specs

    def _trained(
        self,
        name: str,
        start: Mapping[str, ArtifactRef],
        filtered: ArtifactRef,
        fused: ArtifactRef,
    ) -> ArtifactRef:
        targets = self._settings.methods[name].targets
        answers = {"raw": {}, "rewritten": {"filter": filtered}, "fused": {"fuse": fused}}
        config = self._settings.distill_stage(name)
        made = self._ref(f"distill {name}", "distill", config, {**start, **answers[targets]})
        prune = self._settings.prune_stage(name)
        if prune is None:
            return made
        return self._ref(f"prune {name}", "prune", prune, {"distill": made})

    def _measured(
        self, name: str, prepared: ArtifactRef, trained: ArtifactRef | None
    ) -> ArtifactRef:
        own, inputs = trained is not None, {"prepare": prepared}
        asked = inputs | ({} if trained is None else {"distill": trained})
        respond = self._settings.respond_stage(trained=own)
        answered = self._ref(f"respond {name}", "respond", respond, asked)
        evaluate = self._settings.evaluate_stage(trained=own)
        judged = inputs | {"respond": answered}
        return self._ref(f"evaluate {name}", "evaluate", evaluate, judged)

    def _ref(
        self, label: str, stage: str, config: FrozenConfig, inputs: Mapping[str, ArtifactRef]
    ) -> ArtifactRef:
        spec = STAGES[stage].spec(config, inputs, self._settings.runtime)
        self.specs.setdefault(label, []).append(spec)
        return ArtifactRef(stage=stage, key=spec.key, path=str(folder_of(self._root, spec)))


def folder_of(root: Path, spec: StageSpec) -> Path:
    """Where its artifact lies, or would."""
    return root / "artifacts" / spec.stage / spec.key


def is_kept(root: Path, spec: StageSpec) -> bool:
    """Whether the store has the artifact, by its record and the names of its files."""
    folder = folder_of(root, spec)
    record = read_record(folder)
    if record is None or not record.is_of(spec.stage, spec.key):
        return False
    return all((folder / name).is_file() for name in record.files)


def records_of(root: Path, stage: str) -> list[tuple[Record, Path]]:
    """All artifacts of a stage, as its code is now, that the store has, with their folders."""
    found = []
    for folder in sorted((root / "artifacts" / stage).glob("*")):
        record = read_record(folder)
        current = record is not None and record.version == STAGES[stage].version
        if record is not None and current and record.is_of(stage, folder.name):
            found.append((record, folder))
    return found
