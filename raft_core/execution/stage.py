"""What a stage is, and what its function gets: configuration, inputs, and where to write."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from raft_core.config.base import FrozenConfig, fingerprint
from raft_core.config.runtime import RuntimeConfig
from raft_core.data.records import Rejection, write_jsonl
from raft_core.errors import StageError
from raft_core.execution.budget import Spending
from raft_core.execution.inputs import Inputs, group
from raft_core.execution.progress import Progress
from raft_core.execution.slots import SHARED, SHORT
from raft_core.store.artifacts import ArtifactRef, StageSpec

# Input -> the parts of it that a stage reads, as glob patterns of its files.
Reads = Mapping[str, Sequence[str]]


class StageConfig(FrozenConfig):
    """What decides a stage's result beside its inputs."""

    def reads(self) -> Reads:
        """Return the parts that the stage reads of each input.

        They alone enter the key, and nothing else of an input is there when the stage runs. The
        name of several inputs stands for each of them.
        """
        return {}


@dataclass(frozen=True, slots=True)
class Stage:
    """`version` changes when the code's results do, and so forks every key.

    `module` has the function `run`, and is imported when the stage runs. A stage that `trains` runs
    in as many processes as `runtime.training` says. A `light` one loads no language model and runs
    beside the others, whatever `runtime.parallel_stages` says. `needs` names the packages of
    `runtime.preload` that it uses; None: it waits for all. `rank` says who starts first where more
    are ready than may run at once.
    """

    name: str
    version: int
    config: type[StageConfig]
    module: str
    trains: bool = False
    light: bool = False
    needs: tuple[str, ...] | None = None
    rank: Callable[[StageSpec], int] = lambda _: SHARED

    def load(self) -> Callable[[StageRun], None]:
        """Import and return the function that runs it."""
        run: Callable[[StageRun], None] = import_module(self.module).run
        return run

    def spec(
        self, config: StageConfig, inputs: Mapping[str, ArtifactRef], runtime: RuntimeConfig
    ) -> StageSpec:
        """Return the stage with its configuration and inputs, ready to run or to look up.

        Raises:
            TypeError: the configuration is another stage's, or an input is none that it reads.
        """
        if not isinstance(config, self.config):
            raise TypeError(f"stage {self.name} takes {self.config.__name__}")
        reads = config.reads()
        if unread := {group(name) for name in inputs} - reads.keys():
            raise TypeError(f"stage {self.name} reads no {', '.join(sorted(unread))}")
        return StageSpec(
            stage=self.name,
            version=self.version,
            config=config.model_dump(mode="json"),
            identity=fingerprint(config),
            inputs=dict(inputs),
            reads={name: tuple(reads[group(name)]) for name in inputs},
            runtime=runtime.model_dump(mode="json"),
        )


def after_training(spec: StageSpec) -> int:
    """Return the rank of a stage that may follow a training: refining and the base's come first."""
    return SHORT if "distill" in spec.inputs else SHARED


@dataclass(frozen=True, slots=True)
class StageRun:
    """One execution of a stage.

    `inputs` maps names to folders with the parts of artifacts that it reads, `out` is where the
    artifact is written, `scratch` is a folder beside it that survives a crash and is no part of the
    artifact. `engines` are those that it loaded: they live as long as this does. `key` is the
    artifact's.
    """

    config: Any
    inputs: Inputs
    out: Path
    scratch: Path
    runtime: RuntimeConfig
    progress: Progress
    spending: Spending = field(default_factory=Spending)
    engines: list[Any] = field(default_factory=list)
    key: str = ""

    def account(self, rows_in: int, kept: int, rejections: Sequence[Rejection]) -> None:
        """Write rejected.jsonl and counts.json; no row may be lost.

        Raises:
            AssertionError: rows in differ from rows kept plus rows rejected.
        """
        if rows_in != kept + len(rejections):
            raise AssertionError(f"{rows_in} rows in, {kept} kept, {len(rejections)} rejected")
        write_jsonl(self.out / "rejected.jsonl", rejections)
        reasons = dict(Counter(rejection.reason for rejection in rejections).most_common())
        counts = {"in": rows_in, "kept": kept, "rejected": reasons}
        (self.out / "counts.json").write_text(json.dumps(counts, indent=1))


@contextmanager
def writing_model(folder: Path, kept: str) -> Iterator[None]:
    """Turns a disk that a model does not fit on into one error; `kept` says what is not lost.

    Raises:
        StageError: with the reason and the free space.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        raise StageError(
            f"the model could not be written ({short(error)}; {free_space(folder)}): {kept}. Free "
            "some space, and run again"
        ) from None


def short(error: Exception) -> str:
    said = str(error).strip()
    return said.splitlines()[0] if said else type(error).__name__


def free_space(folder: Path) -> str:
    return f"{shutil.disk_usage(folder).free / 2**30:.1f} GiB are free in '{folder}'"
