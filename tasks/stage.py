"""A stage as a Prefect task: `execute`, with the state that it ends in, and one run's context."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace

from prefect.states import Completed, State

from raft_core.app.document_settings import DocumentSettings
from raft_core.app.settings import Settings
from raft_core.app.stages import STAGES
from raft_core.config.base import FrozenConfig
from raft_core.execution.execute import Execution, Made, execute, open_execution
from raft_core.execution.generations import Generations
from raft_core.execution.terminal import QuietTerminal, Terminal
from raft_core.store.artifacts import ArtifactRef
from tasks.cluster import remote_on_ray
from tasks.pools import remote_in_pool
from tasks.tracking import Tracker


@dataclass(frozen=True, kw_only=True)
class RunContext(Execution):
    """A flow run of the pipeline or of a preparation: its settings say what its stages do.

    `generations` counts what the stages asked of their models.
    """

    settings: Settings | DocumentSettings
    tracker: Tracker
    terminal: Terminal = field(repr=False)
    generations: Generations = field(repr=False)

    def for_settings(self, settings: Settings) -> RunContext:
        """Return the same run, slots and failures under other settings."""
        return replace(self, settings=settings)

    def quiet(self) -> RunContext:
        """Return the same run whose stages are not told of one by one."""
        return replace(self, listeners=(QuietTerminal(self.terminal), self.generations))


@contextmanager
def open_context(settings: Settings | DocumentSettings, tracker: Tracker) -> Iterator[RunContext]:
    """Open terminal, tracking, processes and store of one flow run for as long as it lasts.

    Raises:
        InputError: the store cannot be reached; nothing has been started then.
    """
    generations, terminal, runtime = Generations(), Terminal(), settings.runtime
    listeners = (terminal, generations, tracker)
    remote = (remote_on_ray if runtime.task_runner == "ray" else remote_in_pool)(runtime, tracker)
    with open_execution(runtime, STAGES, listeners, remote) as run:
        shared = {each.name: getattr(run, each.name) for each in fields(run)}
        yield RunContext(
            settings=settings,
            tracker=tracker,
            terminal=terminal,
            generations=generations,
            **shared,
        )


def run_stage(
    context: RunContext,
    stage: str,
    config: FrozenConfig,
    inputs: Mapping[str, ArtifactRef],
    label: str | None = None,
) -> State:
    """Return the stage's artifact as a Prefect state, named Cached when the store held it."""
    with context.noting_failure():
        made = artifact_of(context, stage, config, inputs, label or stage)
    name = "Cached" if made.cached else None
    return Completed(name=name, data=made.artifact, message=f"{stage} {made.artifact.key}")


def artifact_of(
    context: RunContext,
    stage: str,
    config: FrozenConfig,
    inputs: Mapping[str, ArtifactRef],
    label: str,
) -> Made:
    """Return the stage's artifact under these settings."""
    return execute(context, STAGES[stage].spec(config, inputs, context.settings.runtime), label)
