"""Settings of the report."""

from __future__ import annotations

from pydantic import Field

from raft_core.data.records import SPLITS
from raft_core.evaluation.config import CompareConfig
from raft_core.evaluation.independence import PanelMember
from raft_core.execution.stage import Reads, Stage, StageConfig


class ReportStage(StageConfig):
    """Inputs: `prepare`, `filter`, `fuse`; of `evaluate` the base and every method; of `distill`
    every method.
    """

    domain: str
    learning_rates: dict[str, float] = Field(description="method -> its learning rate, in order")
    benchmarks: tuple[str, ...]
    retained: tuple[str, ...]
    tau: float
    compare: CompareConfig = CompareConfig()
    panel: tuple[PanelMember, ...] = ()
    warnings: tuple[str, ...] = ()

    def reads(self) -> Reads:
        return {
            "prepare": (*(f"{split}.jsonl" for split in SPLITS), "counts.json"),
            "filter": ("filtered.jsonl", "counts.json"),
            "fuse": ("fused.jsonl", "counts.json"),
            "distill": ("weight_distance.json", "curves.jsonl", "summary.json"),
            "evaluate": ("scores.json", "verdicts.jsonl"),
        }


REPORT = Stage("report", 4, ReportStage, "raft_core.evaluation.report")
