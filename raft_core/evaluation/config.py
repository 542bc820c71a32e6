"""Settings of evaluation: which benchmarks, which panel, how the models answer."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from raft_core.config import FrozenConfig
from raft_core.engines import GeneratorConfig
from raft_core.engines.base import Sampling
from raft_core.evaluation.benchmarks import BenchmarkConfig
from raft_core.judging import Panel

RESPOND_VERSION = 1
EVALUATE_VERSION = 2


def _with_group(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"cluster_pattern is no regular expression ({error})") from None
    if groups < 1:
        raise ValueError("cluster_pattern has no group")
    return pattern


ClusterPattern = Annotated[
    str,
    AfterValidator(_with_group),
    Field(description="its first group in a row's id names the fact that the row asks for"),
]


class CompareConfig(FrozenConfig):
    """What the report compares: every method with `baseline`, and `method` with every other.

    Without the baseline among the methods that are run, the base takes its place. Rows whose ids
    `cluster_pattern` maps on one fact are drawn together in the intervals of differences.
    """

    baseline: str = "sft_raw"
    method: str = "raft"
    cluster_pattern: ClusterPattern | None = None


class EvaluateConfig(FrozenConfig):
    """`retained` names the benchmarks whose scores should survive the training."""

    sampling: Sampling = Sampling(max_tokens=1024)
    panel: Panel
    benchmarks: Annotated[dict[str, BenchmarkConfig], Field(min_length=1)]
    retained: tuple[str, ...] = ("general", "instructions")
    compare: CompareConfig = CompareConfig()

    def identity(self) -> dict[str, Any]:
        """What a model is measured by; how the measured ones are compared is the report's."""
        return {name: getattr(self, name) for name in type(self).model_fields if name != "compare"}


class RespondStage(FrozenConfig):
    """A model answers the benchmarks. With a `distill` input its checkpoint is the model."""

    generator: GeneratorConfig
    sampling: Sampling
    benchmarks: dict[str, BenchmarkConfig]


class EvaluateStage(FrozenConfig):
    """The responses are scored; the model is not needed any more."""

    panel: Panel
    benchmarks: dict[str, BenchmarkConfig]
