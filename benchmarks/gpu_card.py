"""Time and memory of work on a device, by CUDA's own events; on a CPU by the clock, for tests."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import torch

GIB = 2**30


class Card:
    """The device that is measured."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.is_cuda = device == "cuda"

    def synchronize(self) -> None:
        if self.is_cuda:
            torch.cuda.synchronize()

    def clock(self) -> float:
        """Return the time in seconds, once all queued work is done."""
        self.synchronize()
        return time.perf_counter()

    def seconds(self, work: Callable[[], Any]) -> float:
        """Return how long the device works on this."""
        if not self.is_cuda:
            started = time.perf_counter()
            work()
            return time.perf_counter() - started
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        work()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1000

    def forget_peak(self) -> None:
        if self.is_cuda:
            torch.cuda.reset_peak_memory_stats()

    def allocated(self) -> int:
        return torch.cuda.memory_allocated() if self.is_cuda else 0

    def peak(self) -> int:
        return torch.cuda.max_memory_allocated() if self.is_cuda else 0

    def empty(self) -> None:
        """Let the allocator return free memory."""
        if self.is_cuda:
            torch.cuda.empty_cache()

    def clear(self) -> None:
        """Return all memory that nothing refers to any more, cycles included."""
        gc.collect()
        self.empty()

    def describe(self) -> dict[str, Any]:
        """Return the device's description for the report."""
        versions = {"torch": torch.__version__, "cuda": torch.version.cuda}
        if not self.is_cuda:
            return {"name": "no GPU", "gib": 0.0, **versions}
        properties = torch.cuda.get_device_properties(0)
        return {"name": properties.name, "gib": properties.total_memory / GIB, **versions}


def reason(failure: Exception) -> str:
    """Describe the failure of one measurement in a few words."""
    if isinstance(failure, torch.OutOfMemoryError):
        return "out of memory"
    return f"{type(failure).__name__}: {' '.join(str(failure).split())[:400]}"


def tried(card: Card, work: Callable[[], Any]) -> tuple[Any, str | None]:
    """Return the result of `work`, or why it failed; a failure's memory is freed afterwards."""
    value, error = None, None
    try:
        value = work()
        card.synchronize()
    except Exception as failure:  # one measurement's failure must not cost the others
        error = reason(failure)
    card.clear()
    return value, error
