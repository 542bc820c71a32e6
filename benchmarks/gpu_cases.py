"""The cases of `benchmarks.gpu`, in sections, each a process of its own.

Imports no torch: the process that starts the others stays light. In `tiny` the same cases run with
sizes that a CPU does in a minute; its figures mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama's sizes; its output matrix is its embeddings."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int

    @property
    def linears(self) -> int:
        """Weights of one layer's linear maps."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        return attention + 3 * self.hidden * self.intermediate

    def adapter(self, rank: int) -> int:
        """Return the weights of a LoRA of that rank on all linear maps of one layer."""
        wide, narrow = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = 2 * (self.hidden + wide) + 2 * (self.hidden + narrow)
        return rank * (attention + 3 * (self.hidden + self.intermediate))


@dataclass(frozen=True, slots=True)
class TrainingCase:
    """One way to take an optimizer step.

    `parts` is `distill.gradient_accumulation`; `draws` says whether rollouts are drawn or given
    (random ids of full length: what they say does not change what reading them costs), and `graph`
    whether a captured graph draws them. Where rows are `seen_before`, every step is an epoch over
    the same rows. `steps` counts the first one, which is not timed; training ends earlier once it
    took `seconds`. `weight` is lambda.
    """

    name: str
    rank: int | None = 16
    distills: bool = True
    recomputes: bool = True
    parts: int = 1
    draws: bool = False
    graph: bool = False
    seen_before: bool = False
    steps: int = 4
    seconds: float = 15.0
    weight: float = 1.0
    dtype: Literal["float32", "bfloat16"] = "bfloat16"


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes that `tiny` makes smaller; lengths are means, in tokens."""

    objective_tokens: tuple[int, ...]
    objective_hidden: int
    objective_vocabulary: int
    top_k: int
    chunk_exponents: tuple[int, ...]
    swept_tokens: int
    repeats: int
    matmul: int
    large: Shape
    small: Shape
    batch: int
    parts: int
    prompt: int
    answer: int
    rollout: int
    decoded: int


FULL = Sizes(
    objective_tokens=(2_048, 8_192, 16_384),
    objective_hidden=3_072,
    objective_vocabulary=128_256,
    top_k=512,
    chunk_exponents=(22, 23, 24, 25, 26, 27, 28),
    swept_tokens=4_096,
    repeats=5,
    matmul=8_192,
    large=Shape("3B", 28, 3_072, 24, 8, 128, 8_192, 128_256),
    small=Shape("1B", 16, 2_048, 32, 8, 64, 8_192, 128_256),
    batch=16,
    parts=4,
    prompt=256,
    answer=256,
    rollout=256,
    decoded=32,
)
TINY = Sizes(
    objective_tokens=(32, 64),
    objective_hidden=32,
    objective_vocabulary=1_280,
    top_k=16,
    chunk_exponents=(12, 14, 16),
    swept_tokens=64,
    repeats=3,
    matmul=256,
    large=Shape("tiny", 2, 64, 4, 2, 16, 128, 1_280),
    small=Shape("tinier", 1, 32, 2, 1, 16, 64, 1_280),
    batch=4,
    parts=2,
    prompt=24,
    answer=24,
    rollout=8,
    decoded=4,
)

NO_TIME = "no time was left"
SEEN_BEFORE = "given, prompts read before"
# What matters most comes first: what the time does not reach is left out.
LORA = (
    TrainingCase("drawn by a graph", draws=True, graph=True, steps=6),
    TrainingCase("given"),
    TrainingCase(SEEN_BEFORE, seen_before=True),
    TrainingCase("SFT alone", distills=False),
    TrainingCase("given, in parts", parts=4),
    TrainingCase("given, in parts, no recomputation", parts=4, recomputes=False),
    TrainingCase("drawn", draws=True, steps=4, seconds=30.0),
    TrainingCase("SFT alone, no recomputation", distills=False, recomputes=False),
    TrainingCase("given, no recomputation", recomputes=False),
)
WHOLE = (
    TrainingCase("drawn by a graph", rank=None, draws=True, graph=True, steps=6),
    TrainingCase("given", rank=None),
    TrainingCase("SFT alone", rank=None, distills=False),
    TrainingCase("given, no recomputation", rank=None, recomputes=False),
    TrainingCase("drawn", rank=None, draws=True, steps=4, seconds=20.0),
)
TRAINED = {"lora": LORA, "whole": WHOLE}


@dataclass(frozen=True, slots=True)
class Section:
    """A process; it is ended `seconds` after its libraries are loaded and its turn has come."""

    name: str
    cases: tuple[str, ...]
    seconds: float


def sections(sizes: Sizes) -> dict[str, Section]:
    """Return the sections in the order in which they run."""
    objective = (*(f"{tokens} tokens" for tokens in sizes.objective_tokens), "rows alone", "chunks")
    found = (
        Section("checks", ("rates", "losses", "step"), 25.0),
        Section("objective", objective, 50.0),
        Section("decoding", ("tokens", "speed"), 45.0),
        Section("lora", tuple(case.name for case in LORA), 140.0),
        Section("whole", tuple(case.name for case in WHOLE), 70.0),
    )
    return {section.name: section for section in found}
