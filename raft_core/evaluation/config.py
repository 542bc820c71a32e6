"""Settings of evaluation: which benchmarks, which panel, how the models answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator

from raft_core.config.base import FrozenConfig, fingerprint
from raft_core.engines import GENERATION, GeneratorConfig
from raft_core.engines.base import Sampling
from raft_core.evaluation.benchmarks import BenchmarkConfig
from raft_core.evaluation.benchmarks.harness import HARNESS_SCORING
from raft_core.evaluation.judges import Panel
from raft_core.execution.stage import Reads, Stage, StageConfig, after_training

CHECKER_PACKAGES = ("lm_eval", "nltk", "langdetect")


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

    @field_validator("panel")
    @classmethod
    def _differ(cls, panel: Panel) -> Panel:
        if any(judge in panel[:place] for place, judge in enumerate(panel)):
            raise ValueError("two judges are the same, and could only vote alike; leave one out")
        return panel

    def identity(self) -> dict[str, Any]:
        """What a model is measured by; how the measured ones are compared is the report's."""
        return {name: getattr(self, name) for name in type(self).model_fields if name != "compare"}


class RespondStage(StageConfig):
    """A model answers the benchmarks. With a `distill` input its checkpoint is the model."""

    generator: GeneratorConfig
    sampling: Sampling
    benchmarks: dict[str, BenchmarkConfig]

    def identity(self) -> dict[str, Any]:
        """What is asked, and not how it is scored: that may change without asking again."""
        asked = {name: fingerprint(benchmark) for name, benchmark in self.benchmarks.items()}
        for fields in asked.values():
            for name in HARNESS_SCORING if fields["kind"] == "lm_eval" else ():
                del fields[name]
        return {"generator": self.generator, "sampling": self.sampling, "benchmarks": asked}

    def reads(self) -> Reads:
        return {"prepare": domain_rows(self.benchmarks), "distill": ("checkpoint/*",)}


class EvaluateStage(StageConfig):
    """The responses are scored; the model is not needed any more."""

    panel: Panel
    benchmarks: dict[str, BenchmarkConfig]

    def identity(self) -> dict[str, Any]:
        """Instructions are checked by other packages, whose versions count."""
        scored = {name: fingerprint(benchmark) for name, benchmark in self.benchmarks.items()}
        for name, benchmark in self.benchmarks.items():
            if benchmark.kind == "instructions":
                checkers = {package: version(package) for package in CHECKER_PACKAGES}
                scored[name] |= {"sentences": benchmark.sentences, "checkers": checkers}
        return {"panel": self.panel, "benchmarks": scored}

    def reads(self) -> Reads:
        return {
            "prepare": domain_rows(self.benchmarks),
            "respond": ("responses.jsonl", "harness.jsonl"),
        }


def domain_rows(benchmarks: Mapping[str, BenchmarkConfig]) -> tuple[str, ...]:
    """Return the files of the prepared domain that the benchmarks take their rows from."""
    return tuple(
        sorted({file for benchmark in benchmarks.values() for file in benchmark.domain_files})
    )


RESPOND = Stage(
    "respond",
    2,
    RespondStage,
    "raft_core.evaluation.respond",
    needs=GENERATION,
    rank=after_training,
)
EVALUATE = Stage("evaluate", 3, EvaluateStage, "raft_core.evaluation.evaluate")
