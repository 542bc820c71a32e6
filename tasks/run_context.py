"""What the stages of one flow run share: terminal, tracking, processes and store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace

from raft_core.app.pipeline import STAGES
from raft_core.config.runtime import RuntimeConfig
from raft_core.execution.execute import Execution, Failures, open_execution
from raft_core.execution.generations import Generations
from raft_core.execution.terminal import QuietTerminal, Terminal
from tasks.cluster import remote_on_ray
from tasks.pools import remote_in_pool
from tasks.tracking import Tracker


@dataclass(frozen=True, kw_only=True)
class RunContext(Execution):
    """One flow run; `generations` counts what its stages asked of their models."""

    tracker: Tracker
    terminal: Terminal = field(repr=False)
    generations: Generations = field(repr=False)

    def quiet(self) -> RunContext:
        """Return a part of the run, whose stages are not told of one by one."""
        return replace(
            self,
            listeners=(QuietTerminal(self.terminal), self.generations),
            failures=Failures(self.failures),
        )


@contextmanager
def open_context(runtime: RuntimeConfig, tracker: Tracker) -> Iterator[RunContext]:
    """Open terminal, tracking, processes and store of one flow run for as long as it lasts.

    Raises:
        InputError: the store cannot be reached; nothing has been started then.
    """
    generations, terminal = Generations(), Terminal()
    listeners = (terminal, generations, tracker)
    remote = (remote_on_ray if runtime.task_runner == "ray" else remote_in_pool)(runtime, tracker)
    with open_execution(runtime, STAGES, listeners, remote) as run:
        shared = {each.name: getattr(run, each.name) for each in fields(run)}
        yield RunContext(tracker=tracker, terminal=terminal, generations=generations, **shared)
