"""Settings of evaluation: which benchmarks, which panel, how the models answer."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from raft_core.config import FrozenConfig
from raft_core.engines import GeneratorConfig
from raft_core.engines.base import Sampling
from raft_core.evaluation.benchmarks import BenchmarkConfig
from raft_core.judging import Panel

RESPOND_VERSION = 1
EVALUATE_VERSION = 2


class EvaluateConfig(FrozenConfig):
    """`retained` names the benchmarks whose scores should survive the training."""

    sampling: Sampling = Sampling(max_tokens=1024)
    panel: Panel
    benchmarks: Annotated[dict[str, BenchmarkConfig], Field(min_length=1)]
    retained: tuple[str, ...] = ("general", "instructions")


class RespondStage(FrozenConfig):
    """A model answers the benchmarks. With a `distill` input its checkpoint is the model."""

    generator: GeneratorConfig
    sampling: Sampling
    benchmarks: dict[str, BenchmarkConfig]


class EvaluateStage(FrozenConfig):
    """The responses are scored; the model is not needed any more."""

    panel: Panel
    benchmarks: dict[str, BenchmarkConfig]
