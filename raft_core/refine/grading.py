"""Grades of fused answers, in [0, 1]: by rules, by the sentence encoder, by a language model."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from raft_core.config.base import FrozenConfig
from raft_core.data.records import Example, FilteredRewrite
from raft_core.engines import (
    EmbedderConfig,
    Generator,
    GeneratorConfig,
    open_embedder,
    open_generator,
)
from raft_core.engines.base import GenerationRequest, Sampling, answer_text, request_seed
from raft_core.execution.stage import StageRun
from raft_core.prompts import GradePrompt, PromptRef

GRADES = tuple(str(grade) for grade in range(11))


class CoverageScorer(FrozenConfig):
    """Share of the words that reference and rewrite agree on (and the question lacks)."""

    kind: Literal["coverage"] = "coverage"


class SupportScorer(FrozenConfig):
    """Share of the fused answer's words that occur in question, reference or rewrite."""

    kind: Literal["support"] = "support"


class EmbeddingScorer(FrozenConfig):
    """Cosine between the fused answer and the rewrite, as the sentence encoder sees them."""

    kind: Literal["embedding"] = "embedding"
    encoder: EmbedderConfig


class LlmScorer(FrozenConfig):
    """A language model's grade from 0 to 10, divided by ten."""

    kind: Literal["llm"] = "llm"
    generator: GeneratorConfig
    prompt: GradePrompt = PromptRef(name="grade.v2")
    max_tokens: Annotated[int, Field(gt=0)] = 1024


ScorerConfig = Annotated[
    CoverageScorer | SupportScorer | EmbeddingScorer | LlmScorer, Field(discriminator="kind")
]


@dataclass(slots=True)
class FusionRow:
    """One row on its way through the rounds; its candidates with every grade are the lineage."""

    example: Example
    rewrite: FilteredRewrite
    candidates: list[dict[str, Any]] = field(default_factory=list)

    @property
    def best(self) -> dict[str, Any] | None:
        return max(filter(is_usable, self.candidates), key=lambda c: c["mean"], default=None)


def is_usable(candidate: dict[str, Any]) -> bool:
    """Whether a candidate is finished and its facts are the reference's, as far as was looked."""
    return candidate["mean"] is not None and not candidate.get("guard")


# A grade in [0, 1] for each text; None where the judge failed to give one.
Scorer = Callable[[Sequence[FusionRow], Sequence[str]], Sequence[float | None]]


def open_scorer(
    judge: ScorerConfig, generator: Generator, generator_config: GeneratorConfig, stage: StageRun
) -> Scorer:
    """The judge's grading function."""
    if judge.kind == "coverage":
        return coverage
    if judge.kind == "support":
        return support
    if judge.kind == "embedding":
        embedder = open_embedder(judge.encoder, stage)

        def cosine(rows: Sequence[FusionRow], texts: Sequence[str]) -> list[float]:
            kept_ND = embedder.embed([row.rewrite.text for row in rows])
            cosines_N = (embedder.embed(texts) * kept_ND).sum(axis=1)
            return [max(0.0, value) for value in cosines_N.tolist()]

        return cosine
    same = judge.generator == generator_config
    grader = generator if same else open_generator(judge.generator, stage)
    return llm_scorer(judge, grader)


def llm_scorer(judge: LlmScorer, grader: Generator) -> Scorer:
    """Grades by a language model; anything but a grade is none."""
    prompt = judge.prompt.load()

    def grade(rows: Sequence[FusionRow], texts: Sequence[str]) -> list[float | None]:
        requests = [
            GenerationRequest(
                prompt.render(
                    question=row.example.question, reference=row.example.answer, fused=text
                ),
                request_seed("grade", row.example.id, len(row.candidates)),
            )
            for row, text in zip(rows, texts, strict=True)
        ]
        sampling = Sampling(max_tokens=judge.max_tokens)
        said = [answer_text(c.text) for c in grader.generate(requests, sampling, choices=GRADES)]
        return [int(text) / 10 if text in GRADES else None for text in said]

    return grade


def coverage(rows: Sequence[FusionRow], texts: Sequence[str]) -> list[float]:
    grades = []
    for row, text in zip(rows, texts, strict=True):
        agreed = words(row.example.answer) & words(row.rewrite.text) - words(row.example.question)
        grades.append(len(agreed & words(text)) / len(agreed) if agreed else 1.0)
    return grades


def support(rows: Sequence[FusionRow], texts: Sequence[str]) -> list[float]:
    grades = []
    for row, text in zip(rows, texts, strict=True):
        known = words(f"{row.example.question} {row.example.answer} {row.rewrite.text}")
        said = words(text)
        grades.append(len(said & known) / len(said) if said else 0.0)
    return grades


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold()))
