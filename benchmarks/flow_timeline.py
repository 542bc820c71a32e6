"""Sample the processes of one flow run from outside, through /proc.

A stage is known by its log, which is its stdout (`store/work/STAGE-KEY/log.txt`), whether its
process is a fork or a new interpreter. So a stage's interval is the life of its process: what the
flow does before it starts it, or until it notices its end, is not the stage's.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

SAMPLE_SECONDS = 0.02
LOG = re.compile(r"/work/(?P<stage>[a-z]+)-(?P<key>[0-9a-f]+)/log\.txt$")
# The rest of a flow's processes, by a word of their command line.
ROLES = {
    "stage server": "raft_core.execution.stage_server",
    "Prefect's server": "tasks.temporary_api",
}


@dataclass(frozen=True, slots=True)
class Interval:
    """One process: seconds since the flow's start, and the processor time that it took."""

    role: str
    start: float
    end: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """One run: `stages` in the order of their starts; `others` are the flow and its servers."""

    wall: float
    code: int
    stages: tuple[Interval, ...]
    others: tuple[Interval, ...]

    @property
    def working(self) -> float:
        """Seconds in which at least one stage's process lived."""
        return union((stage.start, stage.end) for stage in self.stages)

    @property
    def overhead(self) -> float:
        """Seconds in which no stage's process lived: start, ends, and gaps between stages."""
        return self.wall - self.working

    @property
    def first_stage(self) -> float:
        """Seconds from the start until the first stage's process was there."""
        return min((stage.start for stage in self.stages), default=float("nan"))

    @property
    def gaps(self) -> tuple[float, float, float]:
        """The overhead's parts: before the first stage, between stages, after the last one."""
        if not self.stages:
            return self.wall, 0.0, 0.0
        after = self.wall - max(stage.end for stage in self.stages)
        return self.first_stage, self.overhead - self.first_stage - after, after


def union(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the seconds that are in at least one of the intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


@dataclass
class Seen:
    """A process as it was at its last sample."""

    process: psutil.Process
    role: str
    start: float
    end: float
    cpu: float


class Family:
    """A process and all that come from it; only new processes are asked for their parents."""

    def __init__(self, root: int) -> None:
        self.seen: list[Seen] = []
        self._living: dict[int, Seen] = {}
        self._root, self._known = root, set[int]()
        self._begun = time.monotonic()

    def look(self) -> None:
        """Sample every process of the family that lives now."""
        now, pids = time.monotonic() - self._begun, set(psutil.pids())
        for pid in sorted(pids - self._known):
            with suppress(psutil.Error):
                process = psutil.Process(pid)
                if pid == self._root or process.ppid() in self._living:
                    self._living[pid] = Seen(process, "", now, now, 0.0)
                    self.seen.append(self._living[pid])
        self._known = pids
        for pid, known in list(self._living.items()):
            if pid not in pids or not self._update(known, now):
                del self._living[pid]

    def _update(self, known: Seen, now: float) -> bool:
        """Update a process; return False once it has ended, whether waited for or not."""
        try:
            times = known.process.cpu_times()
            if known.process.status() == psutil.STATUS_ZOMBIE:
                return False
            if "/" not in known.role:  # a fork is its parent until it opens its log
                known.role = role_of(known.process, known.process.pid == self._root) or known.role
        except (psutil.Error, OSError):
            return False
        known.end, known.cpu = now, times.user + times.system
        return True


def watch(
    command: Sequence[str],
    env: Mapping[str, str],
    log: Path,
    folder: Path,
    *,
    until_first_stage: bool = False,
) -> Timeline:
    """Run the command in `folder` to its end, or, with Ctrl-C, until its first stage's process.

    What it prints is appended to `log`.
    """
    begun = time.monotonic()
    with open(log, "ab") as output:
        flow = subprocess.Popen(
            list(command), cwd=folder, env=dict(env), stdout=output, stderr=subprocess.STDOUT
        )
    family, interrupted = Family(flow.pid), False
    while flow.poll() is None:
        family.look()
        if until_first_stage and not interrupted and any("/" in s.role for s in family.seen):
            flow.send_signal(signal.SIGINT)
            interrupted = True
        time.sleep(SAMPLE_SECONDS)
    wall = time.monotonic() - begun
    found = sorted(
        (Interval(s.role or "other", s.start, s.end, s.cpu) for s in family.seen),
        key=lambda i: i.start,
    )
    stages = tuple(each for each in found if "/" in each.role)
    others = tuple(each for each in found if "/" not in each.role)
    return Timeline(wall, flow.returncode, stages, others)


def role_of(process: psutil.Process, is_flow: bool) -> str:
    """Return `STAGE/KEY` for a stage's process; empty for one that is unknown, or about to end."""
    if is_flow:
        return "flow"
    stage = LOG.search(os.readlink(f"/proc/{process.pid}/fd/1"))
    if stage is not None:
        return f"{stage['stage']}/{stage['key'][:6]}"
    line = " ".join(process.cmdline())
    return next((role for role, word in ROLES.items() if word in line), "")


def chart(timeline: Timeline, width: int = 100) -> str:
    """Return the run as text: a line per process, with its seconds and its share of one core."""
    scale = width / timeline.wall
    lines = []
    for each in sorted((*timeline.stages, *timeline.others), key=lambda i: i.start):
        length = each.end - each.start
        if length < 0.3:
            continue
        bar = " " * int(each.start * scale) + "#" * max(1, int(length * scale))
        used = f"{each.start:6.1f}-{each.end:6.1f} {length:6.1f} s, cpu {each.cpu:6.1f} s"
        lines.append(f"{each.role:<18} {used} |{bar:<{width}}|")
    return "\n".join(lines)
