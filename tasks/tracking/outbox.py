"""Sending what a flow run logs, so that a tracking server that is away costs the run nothing.

All calls go through the journal, in good times too: there is one path, a killed process loses
nothing that it logged, and no stage ever waits for the server.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from raft_core.config.runtime import RuntimeConfig
from tasks.tracking.journal import Call, Journal
from tasks.tracking.masking import masked
from tasks.tracking.server import Server, refused

PAUSE_SECONDS = 30.0
# Of one call, at a server that answers other calls: two minutes of trying.
ATTEMPTS = 5
POLL_SECONDS = 0.05
# Importing MLflow keeps the interpreter busy for seconds: a flow starts its first stage before.
HEAD_START_SECONDS = 3.0
INTERRUPT_SECONDS = 2.0
logger = logging.getLogger("raft.tracking")
_OPEN: list[Outbox] = []


class Sender(Protocol):
    """What an outbox needs of a server."""

    @property
    def experiment_id(self) -> str: ...

    def answers(self) -> None: ...

    def send(self, call: Call, ids: dict[str, str]) -> str | None: ...


class Outbox:
    """Sends the first of `journals`, then the others, in order and from one thread of its own.

    The first call is sent after `head_start` seconds, or as soon as somebody waits for it.

    After a failure nothing is sent for `PAUSE_SECONDS`. Then the server is asked something small
    before the call is tried again, so that a call which fails at a server that answers is told
    from a server that is away: the former is left out after `ATTEMPTS`, the latter is waited for.
    """

    def __init__(
        self,
        journals: Sequence[Journal],
        server: Sender,
        clock: Callable[[], float] = time.monotonic,
        head_start: float = 0.0,
    ) -> None:
        self.journal, *self._orphans = journals
        self._server, self._clock = server, clock
        self._resume_at = float("-inf")
        self._away = self._closing = False
        self._refused: set[tuple[str, str]] = set()
        self._head_start, self._awaited = head_start, threading.Event()
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)

    def start(self) -> None:
        _OPEN.append(self)
        self._thread.start()

    def close(self, seconds: float | None = None) -> None:
        """Send what still waits, for at most `seconds`; what is left is for the next flow run."""
        if self in _OPEN:
            _OPEN.remove(self)
        self._closing = True
        self._awaited.set()
        self._thread.join(seconds)

    def server_id(self, run: str) -> str:
        """The server's id of a run, once it answered; empty where it is away."""
        self._awaited.set()
        while self._thread.is_alive() and not self._away and run not in self.journal.ids:
            time.sleep(POLL_SECONDS)
        return self.journal.ids.get(run, "")

    def experiment_id(self, run: str) -> str:
        """The experiment that `run` belongs to; as empty as its id."""
        return self._server.experiment_id if self.server_id(run) else ""

    def forward(self, *, now: bool = False) -> None:
        """Send what waits, unless a failure was just seen; `now` asks even then."""
        if not now and self._clock() < self._resume_at:
            return
        while (waiting := self._next()) is not None:
            if not self._deliver(*waiting):
                self._resume_at = self._clock() + PAUSE_SECONDS
                return

    def _run(self) -> None:
        self._awaited.wait(self._head_start)
        closing = False
        while not closing:
            closing = self._closing
            try:
                self.forward(now=closing)
            except Exception as error:  # the disk is full, say: the rest is for the next run
                logger.warning("MLflow: sending ends: %s", masked(str(error)))
                return
            if not closing:
                time.sleep(POLL_SECONDS)
        for journal in (self.journal, *self._orphans):
            if left := journal.waiting():
                logger.warning("MLflow: the next run sends %d calls of %s", left, journal.path)
            journal.close()

    def _next(self) -> tuple[Journal, Call] | None:
        for journal in (self.journal, *self._orphans):
            call = journal.next()
            if call is not None:
                return journal, call
            if journal is not self.journal:
                journal.close()
                self._orphans.remove(journal)
        return None

    def _deliver(self, journal: Journal, call: Call) -> bool:
        """False where the call has to wait."""
        created = None
        try:
            if journal.failures:
                self._server.answers()
        except Exception as error:
            return self._wait(journal, error)
        try:
            if not _orphaned(call, journal):
                created = self._server.send(call, journal.ids)
        except Exception as error:
            journal.note_failed()
            if not refused(error) and journal.failures < ATTEMPTS:
                return self._wait(journal, error)
            self._leave_out(call, error)
            created = "" if call.method == "start_run" else None
        journal.note_sent(call, created)
        self._away = False
        return True

    def _wait(self, journal: Journal, error: Exception) -> bool:
        if not self._away:
            reason = masked(str(error))
            logger.warning("MLflow is away: what is logged waits in %s (%s)", journal.path, reason)
        self._away = True
        return False

    def _leave_out(self, call: Call, error: Exception) -> None:
        if (call.run, call.method) not in self._refused:
            logger.warning("MLflow: %s failed: %s", call.method, masked(str(error)))
        self._refused.add((call.run, call.method))


def open_outbox(runtime: RuntimeConfig) -> Outbox:
    """A new outbox that sends, along with what ended processes left below the same home."""
    folder, uri = runtime.home_folder / "outbox", runtime.tracking_uri
    journals = [Journal.create(folder, uri), *Journal.orphans(folder, uri)]
    outbox = Outbox(journals, Server(runtime), head_start=HEAD_START_SECONDS)
    outbox.start()
    return outbox


def end_interrupted() -> None:
    """End all runs as killed, before the process ends; takes at most `INTERRUPT_SECONDS`.

    It takes no lock that the interrupted thread may hold. What cannot be sent in that time is sent
    by the next flow run.
    """
    deadline = time.monotonic() + INTERRUPT_SECONDS
    outboxes = list(_OPEN)
    for outbox in outboxes:
        outbox.journal.end_open_runs("KILLED")
    for outbox in outboxes:
        outbox.close(max(0.0, deadline - time.monotonic()))


def _orphaned(call: Call, journal: Journal) -> bool:
    """Whether the run that it needs could not be created."""
    needed = call.arguments["parent"] if call.method == "start_run" else call.run
    return bool(needed) and not journal.ids.get(needed)
