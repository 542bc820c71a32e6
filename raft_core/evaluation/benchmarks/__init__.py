"""Benchmarks as versioned data: each turns rows into prompts, and responses into votes.

One file a kind, each with its VERSION. A vote list is what `judging` makes of it: a response is
right when more than half of the votes say so.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from raft_core.evaluation.benchmarks.harness import HarnessBenchmark
from raft_core.evaluation.benchmarks.instructions import InstructionsBenchmark
from raft_core.evaluation.benchmarks.questions import DomainBenchmark, QuestionsBenchmark
from raft_core.evaluation.benchmarks.reading import ReadingBenchmark

# Those whose prompts and scores are made here.
OwnBenchmark = DomainBenchmark | QuestionsBenchmark | InstructionsBenchmark | ReadingBenchmark
BenchmarkConfig = Annotated[OwnBenchmark | HarnessBenchmark, Field(discriminator="kind")]
