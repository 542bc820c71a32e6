"""Shared parts of the cases of `python -m benchmarks`: spreads of paired runs, results.

A ratio is measured in pairs: one run of each side after the other, so that what else the machine
does falls on both. Its spread is over the pairs. A case writes one JSON file; the document is made
of these files (`document`).
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, lowest and highest of several measurements."""

    median: float
    lowest: float
    highest: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values), len(values))

    def text(self, digits: int = 2) -> str:
        """Return `1.52 [1.48, 1.60]`, as the document prints it."""
        return f"{self.median:.{digits}f} [{self.lowest:.{digits}f}, {self.highest:.{digits}f}]"


def paired(of: Sequence[float], beside: Sequence[float]) -> Spread:
    """Return the ratio of / beside of runs that were measured pair by pair."""
    return Spread.of([a / b for a, b in zip(of, beside, strict=True)])


@dataclass(frozen=True, slots=True)
class Ratio:
    """One figure of the document's summary; `goal` reads like `>= 2` or `<= 0.05`."""

    name: str
    spread: Spread
    goal: str | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the median reaches the goal; None without a goal."""
        if self.goal is None:
            return None
        relation, limit = self.goal.split()
        reached = {
            ">=": self.spread.median >= float(limit),
            "<=": self.spread.median <= float(limit),
        }
        return reached[relation]


@dataclass(frozen=True, slots=True)
class CaseResult:
    """Result of one case; `markdown` is its section of the document, without its heading."""

    case: str
    ratios: tuple[Ratio, ...]
    markdown: str
    seconds: float

    def write(self, file: Path | None) -> None:
        """Print the section; write all of it to `file`, if one is named."""
        print(self.markdown, flush=True)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(asdict(self) | {"machine": machine()}, indent=1) + "\n")


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table; all columns but the first are figures."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def machine() -> str:
    """Return the processor and the cores that this process may use."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{names[0] if names else platform.processor() or platform.machine()}, {cores} cores"
