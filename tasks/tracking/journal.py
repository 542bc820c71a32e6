"""The file in which a flow run's calls to MLflow wait until they were sent: one JSON line each.

Whoever holds the lock on a journal sends its calls: the flow run that writes it or, when that
process is dead and the kernel has freed the lock, the next one that starts.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tasks.tracking.masking import masked

METRICS_A_CALL = 900


@dataclass(frozen=True)
class Call:
    """A method of `Server` to call; `run` is a local id, `end` the offset behind its line."""

    method: str
    run: str
    arguments: dict[str, Any]
    end: int

    def joined(self, later: Call) -> Call | None:
        """Both as one call, where both are metrics of one run and few enough."""
        if (self.method, self.run) != (later.method, later.run) or self.method != "log_metrics":
            return None
        points = [*self.arguments["points"], *later.arguments["points"]]
        if len(points) > METRICS_A_CALL:
            return None
        return replace(later, arguments={"points": points})


class Journal:
    """Calls in their order, between them notes of how far they were sent.

    `ids` maps a run's local id to the server's; it is empty for a run that the server refused.
    `failures` counts the attempts at the next call. A line is one write without a lock, so that
    threads share a journal and a signal handler may add to it.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.ids: dict[str, str] = {}
        self.failures = 0
        self._file = open(descriptor, "ab", buffering=0)  # noqa: SIM115 (it holds the lock)
        self._open_runs: dict[str, bool] = {}
        self._position = 0

    @classmethod
    def create(cls, folder: Path, tracking_uri: str) -> Journal:
        """A new one for calls to this server, which its name tells without naming it."""
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{_mark(tracking_uri)}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"
        path = folder / f"{name}.jsonl"
        with _exclusive(folder):
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        return cls(path, descriptor)

    @classmethod
    def orphans(cls, folder: Path, tracking_uri: str) -> list[Journal]:
        """What processes that have ended left for this server; their open runs were killed."""
        found = []
        with _exclusive(folder):
            for path in sorted(folder.glob(f"{_mark(tracking_uri)}-*.jsonl")):
                descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(descriptor)
                else:
                    found.append(cls(path, descriptor))
        for journal in found:
            journal._recover()
        return found

    def add(self, method: str, run: str, **arguments: Any) -> None:
        """Append a call; after `close` there is no run to log to, and nothing happens.

        Raises:
            OSError: the disk does not take it.
        """
        if not self._file.closed:
            self._append({"call": method, "run": run, **arguments})

    def start_run(self, name: str, tags: Mapping[str, str], parent: str = "") -> str:
        """A new run's local id; `parent` is one too."""
        run = uuid.uuid4().hex
        self.add("start_run", run, name=name, tags=dict(tags), parent=parent, time=now())
        self._open_runs[run] = True
        return run

    def join_run(self, run_id: str) -> str:
        """A local id for a run that the server has, and that another process ends."""
        run = uuid.uuid4().hex
        self.ids[run] = run_id
        self._append({"sent": self._position, "ids": {run: run_id}})
        return run

    def end_run(self, run: str, status: str, time: int | None = None) -> None:
        """The first status that a run ends with is kept."""
        if self._open_runs.pop(run, False):
            self.add("end_run", run, status=status, time=time or now())

    def end_open_runs(self, status: str, time: int | None = None) -> None:
        for run in reversed(list(self._open_runs)):
            self.end_run(run, status, time)

    def next(self) -> Call | None:
        """The first call that was not sent; metrics of a run that follow each other are one."""
        call, end = None, self._position
        for entry, end_of_line in self._entries(self._position):
            if "call" in entry:
                found = _call(entry, end_of_line)
                joined = found if call is None else call.joined(found)
                if joined is None:
                    break
                call = joined
            end = end_of_line
        if call is None:
            self._position = end
        return call

    def waiting(self) -> int:
        """How many calls were not sent."""
        return sum("call" in entry for entry, _ in self._entries(self._position))

    def note_sent(self, call: Call, created: str | None = None) -> None:
        """`call` needs no further attempt; `created` is the server's id of the run it started."""
        ids = {} if created is None else {call.run: created}
        self.ids |= ids
        self.failures, self._position = 0, call.end
        self._append({"sent": call.end, "ids": ids})

    def note_failed(self) -> None:
        self.failures += 1
        self._append({"failed": self._position})

    def close(self) -> None:
        """Give it up: the file goes when all was sent, and else waits for the next process."""
        with _exclusive(self.path.parent):
            if self.next() is None:
                self.path.unlink(missing_ok=True)
            self._file.close()

    def _append(self, entry: Mapping[str, Any]) -> None:
        line = masked(json.dumps(entry)).encode() + b"\n"
        if self._file.write(line) != len(line):
            raise OSError(f"{self.path}: no space left")

    def _entries(self, position: int) -> Iterator[tuple[dict[str, Any], int]]:
        """Complete lines from an offset on, each with the offset behind it."""
        with open(self.path, "rb") as lines:
            lines.seek(position)
            for line in lines:
                if line.endswith(b"\n"):
                    position += len(line)
                    yield _parsed(line), position

    def _recover(self) -> None:
        """Go on where the process that wrote it stopped, maybe within a line."""
        last_ms = int(self.path.stat().st_mtime * 1000)
        self._file.write(b"\n")
        for entry, _ in self._entries(0):
            if "sent" in entry:
                self.ids |= entry["ids"]
                self.failures, self._position = 0, entry["sent"]
            elif "failed" in entry:
                self.failures += 1
            elif entry.get("call") == "start_run":
                self._open_runs[entry.get("run", "")] = True
            elif entry.get("call") == "end_run":
                self._open_runs.pop(entry.get("run", ""), None)
        self.end_open_runs("KILLED", last_ms)


def now() -> int:
    """Milliseconds since the epoch, as MLflow counts."""
    return int(time.time() * 1000)


def _call(entry: dict[str, Any], end: int) -> Call:
    arguments = {k: v for k, v in entry.items() if k not in ("call", "run")}
    return Call(entry["call"], entry.get("run", ""), arguments, end)


def _parsed(line: bytes) -> dict[str, Any]:
    """Empty for a blank line and for one that its writer did not finish."""
    try:
        return dict(json.loads(line))
    except ValueError:
        return {}


def _mark(tracking_uri: str) -> str:
    return hashlib.sha256(masked(tracking_uri).encode()).hexdigest()[:8]


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """One process at a time makes, takes over and removes journals."""
    with open(folder / ".lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
