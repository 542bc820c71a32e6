"""What a person sees in the terminal: a line per stage, with a bar while it runs."""

from __future__ import annotations

import threading
from types import TracebackType

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


class Display:
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

    def __enter__(self) -> Display:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def progress(self, label: str, done: int, total: int) -> None:
        with self._guard:
            if label not in self._tasks:
                self._tasks[label] = self._bars.add_task(label)
            self._bars.update(self._tasks[label], completed=done, total=total)

    def cached(self, label: str) -> None:
        self._line(label, "Cached", "cyan")

    def finished(self, label: str, seconds: float) -> None:
        self._line(label, f"{seconds:.1f} s", "green")

    def failed(self, label: str) -> None:
        self._line(label, "failed", "red")

    def note(self, text: str) -> None:
        self.console.print(f"  {printable(text)}", markup=False, highlight=False)

    def _line(self, label: str, outcome: str, colour: str) -> None:
        with self._guard:
            if label in self._tasks:
                self._bars.remove_task(self._tasks.pop(label))
        self.console.print(f"  {label:<22} [{colour}]{outcome}[/]", highlight=False)
