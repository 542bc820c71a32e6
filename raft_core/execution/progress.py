"""What a stage tells while it works: as events in a file, or as a bar where a person watches."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from raft_core.errors import printable

TELL_SECONDS = 0.1  # who follows the events looks as often


class Progress:
    """Appends one JSON object a line to `events`, or shows tqdm bars when there is no such file.

    Kinds of events: `progress` (what, done, total), `metrics` (step, values), `note` (text),
    `generation` (what the stage asked of its models so far: requests, cached, generated) and
    `timing` (what, and the seconds that it has taken so far). Of advances that follow each other
    within `TELL_SECONDS` the last alone is told.
    """

    def __init__(self, events: str | Path | None = None) -> None:
        self._file = open(events, "a", buffering=1) if events else None  # noqa: SIM115
        self._bar: Any = None
        self._what, self._done, self._total = "", 0, 0
        self._told_at = 0.0
        self._generation: Counter[str] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def start(self, what: str, total: int) -> None:
        self._what, self._done, self._total = what, 0, total
        if self._file is None:
            from tqdm import tqdm

            if self._bar is not None:
                self._bar.close()
            self._bar = tqdm(total=total, desc=what, file=sys.stderr)
        self._emit(kind="progress", what=what, done=0, total=total)

    def advance(self, count: int = 1) -> None:
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        now = time.monotonic()
        if self._done >= self._total or now - self._told_at >= TELL_SECONDS:
            self._told_at = now
            self._emit(kind="progress", what=self._what, done=self._done, total=self._total)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self._emit(kind="metrics", step=step, values=values)

    def generation(self, requests: int = 0, cached: int = 0, generated: int = 0) -> None:
        """Add to the stage's counts: requests, how many were found, how many were generated."""
        self._generation.update(requests=requests, cached=cached, generated=generated)
        self._emit(kind="generation", **self._generation)

    def timing(self, what: str, seconds: float) -> None:
        """Add to the seconds that a part of the stage's work has taken."""
        self._seconds[what] += seconds
        self._emit(kind="timing", what=what, seconds=round(self._seconds[what], 4))

    def note(self, text: str) -> None:
        if self._file is None:
            print(printable(text), file=sys.stderr)
        self._emit(kind="note", text=text)

    def _emit(self, **event: Any) -> None:
        if self._file is not None:
            self._file.write(json.dumps(event) + "\n")
