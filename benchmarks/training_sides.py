"""Run processes that train in turns: while one works, all others are stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.training_spec import StepSpec
from raft_core.config.runtime import KEEP_MEMORY
from raft_core.errors import StageError

ROOT = Path(__file__).resolve().parent.parent
LOG_LINES = 15


@dataclass
class Side:
    """One trainer in a process of its own, on cores of its own, and what its turns took.

    `resident_mib` is what it held before its first step, `peak_mib` the most since then.
    """

    name: str
    python: str
    module: str
    spec: StepSpec
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    phases: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    resident_mib: float = 0.0
    peak_mib: float = 0.0
    completion_tokens: float | None = None

    def start(self) -> None:
        """Start loading; `wait` tells when that is done."""
        log = self._log.open("w")
        threads = str(self.spec.threads)
        self._process = subprocess.Popen(
            [self.python, "-m", self.module, self.spec.to_argument()],
            cwd=ROOT,
            # RAFT's stages run with this memory setting: both sides have it.
            env=os.environ
            | {**KEEP_MEMORY, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
            | {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        log.close()

    def wait(self) -> None:
        """Wait until it is ready for its first step, then stop it."""
        self.resident_mib = self._reply()["resident_mib"]
        self._signal(signal.SIGSTOP)

    def turn(self, steps: int, *, counts: bool) -> None:
        """Let it do so many steps; `counts` is false for what only warms up."""
        pin(self._process.pid, self.spec.threads)
        self._signal(signal.SIGCONT)
        assert self._process.stdin is not None
        print(steps, file=self._process.stdin, flush=True)
        found = self._reply()
        self._signal(signal.SIGSTOP)
        self.peak_mib, self.completion_tokens = found["peak_mib"], found["completion_tokens"]
        if counts:
            self.seconds.append(found["seconds"])
            self.cpu_seconds.append(found["cpu_seconds"])
            self.phases.update(found["phases"])
            self.steps += found["steps"]

    def samples_per_second(self) -> list[float]:
        """Return the samples per second of each turn."""
        each = self.steps / len(self.seconds)
        return [each * self.spec.batch_size / seconds for seconds in self.seconds]

    @property
    def grown_mib(self) -> float:
        """Memory that the training itself needs at its peak."""
        return self.peak_mib - self.resident_mib

    def end(self) -> None:
        """Kill it and all that it started."""
        self._signal(signal.SIGKILL)
        self._process.wait()

    @property
    def _log(self) -> Path:
        return Path(self.spec.folder) / "log.txt"

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            tail = self._log.read_text().splitlines()[-LOG_LINES:]
            raise StageError(f"{self.name} ended:\n" + "\n".join(tail))
        found: dict[str, Any] = json.loads(line)
        return found


def pin(pid: int, count: int) -> None:
    """Keep a process and what it has started on the first cores: as many as it has threads."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))[:count]
    waiting = [pid]
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").glob("*"):
            try:
                os.sched_setaffinity(int(task.name), cores)
                waiting += [int(child) for child in (task / "children").read_text().split()]
            except OSError:
                continue


def started(sides: list[Side]) -> list[Side]:
    """Start all sides and hold them once loaded; if one fails, none is left."""
    try:
        for side in sides:
            Path(side.spec.folder).mkdir(parents=True)
            side.start()
        for side in sides:
            side.wait()
    except BaseException:
        for side in sides:
            if hasattr(side, "_process"):
                side.end()
        raise
    return sides
