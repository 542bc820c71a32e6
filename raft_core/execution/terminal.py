"""The terminal: a line per stage, with a bar while it runs."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from raft_core.errors import printable
from raft_core.execution.listener import Listener
from raft_core.store.artifacts import ArtifactRef, StageSpec


class Terminal(Listener):
    """Live bars on a terminal; one plain line per finished stage anywhere else."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("  {task.description:<22}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._guard = threading.Lock()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def heard(self, label: str, spec: StageSpec, event: Mapping[str, Any]) -> None:
        """Move the stage's bar, or print what it notes."""
        if event["kind"] == "note":
            self.note(event["text"])
        elif event["kind"] == "progress":
            with self._guard:
                if label not in self._tasks:
                    self._tasks[label] = self._bars.add_task(label)
                self._bars.update(self._tasks[label], completed=event["done"], total=event["total"])

    def cached(self, label: str, spec: StageSpec, found: ArtifactRef) -> None:
        """Print that the stage was done before."""
        self._line(label, "Cached", "cyan")

    def ended(self, label: str, spec: StageSpec, made: ArtifactRef, seconds: float) -> None:
        """Print what the stage took."""
        self.finished(label, seconds)

    def finished(self, label: str, seconds: float) -> None:
        """Print what anything took that has a name."""
        self._line(label, f"{seconds:.1f} s", "green")

    def failed(self, label: str, spec: StageSpec, error: BaseException) -> None:
        """Print that it failed; that a person ended the run is said once, elsewhere."""
        if isinstance(error, Exception):
            self._line(label, "failed", "red")

    def note(self, text: str) -> None:
        """Print a line of its own, with nothing that a terminal obeys."""
        self.console.print(f"  {printable(text)}", markup=False, highlight=False)

    def _line(self, label: str, outcome: str, colour: str) -> None:
        with self._guard:
            if label in self._tasks:
                self._bars.remove_task(self._tasks.pop(label))
        self.console.print(f"  {label:<22} [{colour}]{outcome}[/]", highlight=False)


class QuietTerminal(Listener):
    """Show of some stages only what went wrong: those of a cell, which is told of as a whole."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self.note, self.failed = terminal.note, terminal.failed  # type: ignore[method-assign]

    def heard(self, label: str, spec: StageSpec, event: Mapping[str, Any]) -> None:
        """Print what a stage notes."""
        if event["kind"] == "note":
            self._terminal.note(event["text"])
