"""Train in turns with others: so many steps when told to, timed, and then wait.

Both sides of the comparison run this in their own environment: it knows nothing of RAFT or TRL.
Orders come on the standard input, one number of steps a line, and each is answered by one line of
JSON on the standard output; everything that a library prints goes to the standard error.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from transformers import TrainerCallback

from benchmarks.training_spec import StepSpec

MIB = 2**20


class Phases:
    """Seconds spent in parts of a step; the innermost part that is entered counts."""

    def __init__(self) -> None:
        self._seconds: Counter[str] = Counter()
        self._open: list[str] = []
        self._since = time.perf_counter()

    @contextmanager
    def inside(self, phase: str) -> Iterator[None]:
        self._close_span()
        self._open.append(phase)
        try:
            yield
        finally:
            self._close_span()
            self._open.pop()

    def watch(self, owner: Any, method: str, phase: str | Callable[[], str | None]) -> None:
        """Count what runs inside `owner.method`; a phase of None belongs to what is around it."""
        original = getattr(owner, method)

        # The signature stays: trainers look at it to see what a model can be asked for.
        @functools.wraps(original)
        def watched(*args: Any, **kwargs: Any) -> Any:
            name = phase if isinstance(phase, str) else phase()
            if name is None:
                return original(*args, **kwargs)
            with self.inside(name):
                return original(*args, **kwargs)

        setattr(owner, method, watched)

    def is_inside(self, phase: str) -> bool:
        return phase in self._open

    def taken(self) -> dict[str, float]:
        """Return the seconds since the last call, by phase."""
        self._close_span()
        seconds, self._seconds = dict(self._seconds), Counter()
        return seconds

    def _close_span(self) -> None:
        now = time.perf_counter()
        self._seconds[self._open[-1] if self._open else "rest"] += now - self._since
        self._since = now


def watch_passes(phases: Phases, model_class: type) -> None:
    """Watch forward passes of models of this class, the backward pass and the optimizer."""
    import torch
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer

    def of_forward() -> str | None:
        if phases.is_inside("generation") or phases.is_inside("teacher"):
            return None
        return "student forward" if torch.is_grad_enabled() else "teacher"

    phases.watch(model_class, "forward", of_forward)
    phases.watch(Accelerator, "backward", "backward")
    phases.watch(AcceleratedOptimizer, "step", "optimizer")


class Turns(TrainerCallback):
    """Run as many steps as each order asks for; the end of the orders ends the training."""

    def __init__(self, orders: TextIO, replies: TextIO, phases: Phases) -> None:
        self._orders, self._replies, self._phases = orders, replies, phases
        self._left, self._count, self._started, self._cpu_started = 0, 0, 0.0, 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        forget_peak()
        self._reply({"resident_mib": resident_mib("VmRSS")})
        self._take_order(control)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._left -= 1
        if self._left > 0:
            return
        seconds = time.perf_counter() - self._started
        self._reply(
            {
                "seconds": seconds,
                "cpu_seconds": time.process_time() - self._cpu_started,
                "steps": self._count,
                "phases": self._phases.taken(),
                "peak_mib": resident_mib("VmHWM"),
                "completion_tokens": completion_tokens(state.log_history),
            }
        )
        self._take_order(control)

    def _take_order(self, control: Any) -> None:
        order = self._orders.readline().strip()
        if not order:
            control.should_training_stop = True
            return
        self._left = self._count = int(order)
        self._phases.taken()
        self._started, self._cpu_started = time.perf_counter(), time.process_time()

    def _reply(self, values: dict[str, Any]) -> None:
        print(json.dumps(values), file=self._replies, flush=True)


def own_stdout() -> TextIO:
    """Return the standard output for replies alone; send what others print to standard error."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


def take_turns(spec: StepSpec, build: Callable[[StepSpec, Phases], Any]) -> None:
    """Live one side's whole life: build its trainer, and train by orders."""
    import torch

    end_with_parent()
    replies, phases = own_stdout(), Phases()
    torch.set_num_threads(spec.threads)
    trainer = build(spec, phases)
    trainer.add_callback(Turns(sys.stdin, replies, phases))
    trainer.train()


def end_with_parent() -> None:
    """Have this process end with its parent.

    A side that is held would outlive a comparison that was killed, with all of its memory.
    """
    if sys.platform == "linux":
        parent_death_signal = 1
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)


def completion_tokens(log_history: list[dict[str, Any]]) -> float | None:
    """Return the mean length of what was drawn, as either trainer logs it."""
    names = ("rollout_tokens", "completions/mean_length")
    found = [line[name] for line in log_history for name in names if name in line]
    return sum(found) / len(found) if found else None


def forget_peak() -> None:
    """Reset the peak; where that is not allowed it counts since the process's start."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def resident_mib(field: str) -> float:
    """Return VmRSS or VmHWM of this process and of all that it has started (Linux)."""
    total, waiting = 0, [os.getpid()]
    while waiting:
        folder = Path(f"/proc/{waiting.pop()}")
        try:
            status = (folder / "status").read_text()
            children = [path.read_text() for path in folder.glob("task/*/children")]
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith(field))
        waiting += [int(pid) for text in children for pid in text.split()]
    return total * 1024 / MIB
