"""Settings of the report."""

from __future__ import annotations

from pydantic import Field

from raft_core.config.base import FrozenConfig
from raft_core.evaluation.config import CompareConfig
from raft_core.evaluation.independence import PanelMember

VERSION = 4


class ReportStage(FrozenConfig):
    """Inputs: `prepare`, `filter`, `fuse`, `evaluate.base`; per method `evaluate.METHOD` and
    `distill.METHOD`.
    """

    domain: str
    learning_rates: dict[str, float] = Field(description="method -> its learning rate, in order")
    benchmarks: tuple[str, ...]
    retained: tuple[str, ...]
    tau: float
    compare: CompareConfig = CompareConfig()
    panel: tuple[PanelMember, ...] = ()
    warnings: tuple[str, ...] = ()
