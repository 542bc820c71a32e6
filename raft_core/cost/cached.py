"""Which stages the store holds already: their keys are computed as a run would, and looked up.

A key is made of a stage's settings and of the keys before it, so no artifact is needed to know it.
What is looked at is the record and that its files are there; a run also checks their digests.
"""

from __future__ import annotations

from pathlib import Path

from raft_core.app.pipeline import STAGES, full_run, prepare_node
from raft_core.app.settings import Settings
from raft_core.config.runtime import RuntimeConfig
from raft_core.execution.graph import predicted
from raft_core.store.artifacts import StageSpec, Store
from raft_core.store.record import Record, read_record

# None where a key cannot be known yet.
Specs = dict[str, list[StageSpec | None]]


def store_root(runtime: RuntimeConfig) -> Path:
    """The local folder of the store; what only a shared address holds is not looked for."""
    address = runtime.store_address
    return runtime.home_folder / "store" if "://" in address else Path(address).expanduser()


def run_specs(settings: Settings, root: Path, train_rows: int | None) -> Specs:
    """Return the specifications of a run's stages by their names, shards together.

    Without the number of training rows, which decides how many shards there are, `prepare` alone.
    """
    prepare = prepare_node(settings)
    wanted = [prepare] if train_rows is None else full_run(settings, prepare, train_rows).nodes
    known = predicted(wanted, STAGES, settings.runtime, Store(root).peek)
    specs: Specs = {}
    for node, spec in known.items():
        specs.setdefault(node.name, []).append(spec)
    return specs


def folder_of(root: Path, spec: StageSpec) -> Path:
    """Where its artifact lies, or would."""
    return root / "artifacts" / spec.stage / spec.key


def is_kept(root: Path, spec: StageSpec | None) -> bool:
    """Whether the store has the artifact, by its record and the names of its files."""
    if spec is None:
        return False
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
