"""Settings of the stages that turn documents into question-answer pairs."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from raft_core.config.base import FrozenConfig, ModelRef
from raft_core.documents.self_contained import PHRASES
from raft_core.documents.sources import DocumentSource
from raft_core.engines.base import GeneratorConfig, Sampling
from raft_core.execution.shards import WHOLE, Shard
from raft_core.execution.stage import Reads, Stage, StageConfig
from raft_core.prompts import AskPrompt, PromptRef, TeacherPrompt, VerdictPrompt

Positive = Annotated[int, Field(gt=0)]
UnitInterval = Annotated[float, Field(gt=0, le=1)]
FRAME_FIELDS = ("{attribute}", "{subject}")


def compiles(pattern: str) -> str:
    """A regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return pattern


def names_both(frame: str) -> str:
    """A question frame has a place for the subject and one for the attribute."""
    if any(frame.count(field) != 1 for field in FRAME_FIELDS):
        raise ValueError(f"a frame holds each of {' and '.join(FRAME_FIELDS)} once")
    return frame


class CharacterBudget(FrozenConfig):
    """Passages of at most `limit` characters; `overlap` of them may stand in the next one too."""

    kind: Literal["characters"] = "characters"
    limit: Positive = 1600
    overlap: Annotated[int, Field(ge=0)] = 0


class TokenBudget(FrozenConfig):
    """Passages of at most `limit` tokens of a model's tokenizer."""

    kind: Literal["tokens"] = "tokens"
    model: ModelRef
    limit: Positive = 400
    overlap: Annotated[int, Field(ge=0)] = 0


BudgetConfig = Annotated[CharacterBudget | TokenBudget, Field(discriminator="kind")]


class PassagesConfig(FrozenConfig):
    """How documents are cut, and which of their passages are too short to be asked about."""

    budget: BudgetConfig = CharacterBudget()
    min_characters: Annotated[int, Field(ge=1)] = 40
    max_document_characters: Positive = Field(
        2_000_000, description="a longer document is rejected, so that one file cannot fill a run"
    )

    @model_validator(mode="after")
    def _overlap_leaves_room(self) -> PassagesConfig:
        if 2 * self.budget.overlap > self.budget.limit:
            raise ValueError("budget.overlap must not exceed half of budget.limit")
        return self


class LlmProposer(FrozenConfig):
    """A language model that writes up to `questions_per_passage` questions with their answers."""

    kind: Literal["llm"] = "llm"
    generator: GeneratorConfig
    prompt: AskPrompt = PromptRef(name="ask.v1")
    sampling: Sampling = Sampling(temperature=0.7, top_p=0.95, max_tokens=2048)
    questions_per_passage: Annotated[int, Field(gt=0, le=50)] = 5


class FramesProposer(FrozenConfig):
    """Questions by rule: each frame with each subject and attribute that a passage names.

    The model answers them by reading the passage. It is for models too small to write questions.
    """

    kind: Literal["frames"] = "frames"
    generator: GeneratorConfig
    prompt: TeacherPrompt = PromptRef(name="teacher.v1")
    sampling: Sampling = Sampling(max_tokens=256)
    frames: Annotated[tuple[Annotated[str, AfterValidator(names_both)], ...], Field(min_length=1)]
    subjects: Annotated[str, AfterValidator(compiles)] = Field(
        description="a regular expression; what it matches in a passage is a subject"
    )
    attributes: Annotated[tuple[str, ...], Field(min_length=1)]


ProposerConfig = Annotated[LlmProposer | FramesProposer, Field(discriminator="kind")]


class AskConfig(FrozenConfig):
    proposer: ProposerConfig
    passages_per_shard: Positive = Field(1024, description="passages of one shard, votes included")


class VerdictVoter(FrozenConfig):
    """A language model that says whether a pair is answerable, grounded and self-contained."""

    kind: Literal["llm_verdict"] = "llm_verdict"
    generator: GeneratorConfig
    prompt: VerdictPrompt = PromptRef(name="verdict.v1")
    sampling: Sampling = Sampling(max_tokens=1024)


class RereadVoter(FrozenConfig):
    """A model that answers the question again from the passage, and agrees or does not.

    `agreement` is the share of the words taken from the passage that both answers must have in
    common (Jaccard). An answer that names, counts or denies what neither passage nor question does
    is not grounded.
    """

    kind: Literal["reread"] = "reread"
    generator: GeneratorConfig
    prompt: TeacherPrompt = PromptRef(name="teacher.v1")
    sampling: Sampling = Sampling(temperature=0.7, top_p=0.95, max_tokens=512)
    agreement: UnitInterval = 0.6


VoterConfig = Annotated[VerdictVoter | RereadVoter, Field(discriminator="kind")]


class VoteConfig(FrozenConfig):
    """Who votes; a pair is kept when more than half of all voters approve of it."""

    voters: Annotated[tuple[VoterConfig, ...], Field(min_length=1)]
    phrases: tuple[str, ...] = Field(
        PHRASES, description="a pair that says one of them leans on its passage and is rejected"
    )

    @model_validator(mode="after")
    def _voters_differ(self) -> VoteConfig:
        numbered = enumerate(map(as_asked, self.voters), 1)
        for (first, one), (second, other) in combinations(numbered, 2):
            if one == other:
                raise ValueError(
                    f"voter {second} repeats voter {first} and would only cast its vote again; "
                    "give it another model, prompt or (above temperature 0) seed"
                )
        return self


def as_asked(voter: VoterConfig) -> dict[str, Any]:
    """What decides a voter's answers: at temperature 0 no seed does."""
    asked = voter.model_dump(mode="json")
    if voter.sampling.temperature == 0:
        del asked["sampling"]["seed"]
    return asked


class PassagesStage(StageConfig):
    documents: DocumentSource
    limit: Positive | None = None
    passages: PassagesConfig


class AskStage(StageConfig):
    proposer: ProposerConfig
    shard: Shard = WHOLE

    def reads(self) -> Reads:
        return {"passages": ("passages.jsonl",)}


class VoteStage(StageConfig):
    vote: VoteConfig

    def reads(self) -> Reads:
        return {"passages": ("passages.jsonl",), "ask": ("proposed.jsonl",)}


class PairsStage(StageConfig):
    """Inputs alone decide the result: `passages`, and every shard of `ask` and `vote`."""

    def reads(self) -> Reads:
        return dict.fromkeys(("passages", "ask", "vote"), ("*.jsonl", "*.json"))


PASSAGES = Stage("passages", 2, PassagesStage, "raft_core.documents.passages")
ASK = Stage("ask", 2, AskStage, "raft_core.documents.ask")
VOTE = Stage("vote", 3, VoteStage, "raft_core.documents.vote")
PAIRS = Stage("pairs", 1, PairsStage, "raft_core.documents.pairs")
