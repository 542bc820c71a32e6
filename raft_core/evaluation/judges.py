"""A panel of judges: is a response right, given the question and the reference?

Each judge votes correct, incorrect or cannot_tell; a response is right when more than half of
the whole panel says so, so a judge that cannot tell never makes the panel smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from raft_core.config.base import FrozenConfig
from raft_core.data.matching import mentions, normal
from raft_core.data.records import Verdict, Vote
from raft_core.engines import Generator, GeneratorConfig, open_generator
from raft_core.engines.base import (
    Completion,
    GenerationRequest,
    Sampling,
    answer_text,
    request_seed,
)
from raft_core.execution.stage import StageRun
from raft_core.prompts import JudgePrompt, PromptRef

VERDICTS: dict[str, Verdict] = {
    "correct": "correct",
    "incorrect": "incorrect",
    "cannot tell": "cannot_tell",
}


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """What a judge sees of one response."""

    id: str
    question: str
    reference: str
    response: str
    expected: tuple[str, ...] = ()


class ContainsJudge(FrozenConfig):
    """Right if every expected string (or else the whole reference) occurs in the response."""

    kind: Literal["contains"] = "contains"


class ExactJudge(FrozenConfig):
    """Right if the response is the reference, or the expected string where the row has just one.

    Case, punctuation and spacing do not count, except where they belong to a number, a comparison
    or a name such as C++, and where a text consists of nothing else.
    """

    kind: Literal["exact"] = "exact"


class FirstMentionJudge(FrozenConfig):
    """Right if, of all answers expected anywhere in the benchmark, the right one comes first.

    Answers that the question itself names do not count. Cannot tell without expected strings.
    """

    kind: Literal["first_mention"] = "first_mention"


class UnambiguousJudge(FrozenConfig):
    """Right if the response names the expected answer and no other answer of the benchmark."""

    kind: Literal["unambiguous"] = "unambiguous"


class LlmJudge(FrozenConfig):
    """A language model with a verdict of fixed form; `max_tokens` leaves room for its thinking."""

    kind: Literal["llm"] = "llm"
    generator: GeneratorConfig
    prompt: JudgePrompt = PromptRef(name="judge.v2")
    max_tokens: Annotated[int, Field(gt=0)] = 1024


JudgeConfig = Annotated[
    ExactJudge | ContainsJudge | FirstMentionJudge | UnambiguousJudge | LlmJudge,
    Field(discriminator="kind"),
]
Panel = Annotated[tuple[JudgeConfig, ...], Field(min_length=1)]


def judge_answers(
    answers: Sequence[JudgedAnswer], panel: Panel, stage: StageRun
) -> list[list[Vote]]:
    """The votes of every judge on every answer, in the order of both."""
    by_judge = []
    for name, judge in zip(judge_names(panel), panel, strict=True):
        if isinstance(judge, LlmJudge):
            generator = open_generator(judge.generator, stage)
            by_judge.append(llm_votes(answers, judge, generator, name))
            generator.close()
        else:
            by_judge.append(RULE_JUDGES[judge.kind](answers))
    return [list(votes) for votes in zip(*by_judge, strict=True)]


def judge_names(panel: Panel) -> list[str]:
    """What the judges are called in votes: a rule by its kind, a model by its place."""
    return [
        f"llm_{position}" if isinstance(judge, LlmJudge) else judge.kind
        for position, judge in enumerate(panel, 1)
    ]


def majority_correct(votes: Sequence[Vote]) -> bool:
    """True if more than half of the panel votes correct; a tie is not correct."""
    return 2 * sum(vote.verdict == "correct" for vote in votes) > len(votes)


def undecided(votes: Sequence[Vote]) -> bool:
    """True if so many judges cannot tell that no majority could call the answer correct."""
    return 2 * sum(vote.verdict != "cannot_tell" for vote in votes) <= len(votes)


def llm_votes(
    answers: Sequence[JudgedAnswer], judge: LlmJudge, generator: Generator, name: str
) -> list[Vote]:
    """One vote per answer; anything but the exact form of a verdict is cannot_tell."""
    prompt = judge.prompt.load()
    requests = [
        GenerationRequest(
            prompt.render(question=a.question, reference=a.reference, response=a.response),
            request_seed("judge", name, a.id),
        )
        for a in answers
    ]
    sampling = Sampling(max_tokens=judge.max_tokens)
    completions = generator.generate(requests, sampling, choices=tuple(VERDICTS))
    return [_parse_verdict(completion, name) for completion in completions]


def _parse_verdict(completion: Completion, name: str) -> Vote:
    said = answer_text(completion.text).removesuffix(".").lower()
    if said not in VERDICTS or completion.finish_reason != "stop":
        return Vote(name, "cannot_tell", (completion.error or completion.text)[:200])
    return Vote(name, VERDICTS[said])


def exact_votes(answers: Sequence[JudgedAnswer]) -> list[Vote]:
    return [_vote("exact", _says_just(a.response, _wanted(a))) for a in answers]


def _wanted(answer: JudgedAnswer) -> tuple[str, ...]:
    alone = answer.expected if len(answer.expected) == 1 else ()
    return (answer.reference, *alone)


def _says_just(response: str, wanted: Sequence[str]) -> bool:
    if normal(response):
        return normal(response) in map(normal, wanted)
    return response.strip() in [text.strip() for text in wanted]


def contains_votes(answers: Sequence[JudgedAnswer]) -> list[Vote]:
    return [
        _vote("contains", all(mentions(a.response, e) for e in a.expected or (a.reference,)))
        for a in answers
    ]


def first_mention_votes(answers: Sequence[JudgedAnswer]) -> list[Vote]:
    candidates = _candidates(answers)
    return [_first_mention(answer, candidates) for answer in answers]


def unambiguous_votes(answers: Sequence[JudgedAnswer]) -> list[Vote]:
    candidates = _candidates(answers)
    votes = []
    for answer in answers:
        if not answer.expected:
            votes.append(Vote("unambiguous", "cannot_tell", "no expected strings"))
            continue
        named = _mentioned(answer, candidates)
        votes.append(_vote("unambiguous", named == {normal(e) for e in answer.expected}))
    return votes


RULE_JUDGES: dict[str, Callable[[Sequence[JudgedAnswer]], list[Vote]]] = {
    "exact": exact_votes,
    "contains": contains_votes,
    "first_mention": first_mention_votes,
    "unambiguous": unambiguous_votes,
}


def _first_mention(answer: JudgedAnswer, candidates: Candidates) -> Vote:
    if not answer.expected:
        return Vote("first_mention", "cannot_tell", "no expected strings")
    named = _mentioned(answer, candidates)
    expected = {normal(e) for e in answer.expected}
    text = f" {normal(answer.response)} "
    in_order = sorted(named, key=lambda candidate: text.index(f" {candidate} "))
    return _vote("first_mention", set(in_order[: len(expected)]) == expected)


@dataclass(frozen=True, slots=True)
class Candidates:
    """All answers that are expected anywhere, and how many words they have."""

    answers: frozenset[str]
    lengths: frozenset[int]

    def in_text(self, text: str) -> set[str]:
        """Those that a text says; runs of words are looked up, however many answers there are."""
        words = normal(text).split(" ")
        runs = (
            " ".join(words[start : start + length])
            for length in self.lengths
            for start in range(len(words) - length + 1)
        )
        return {run for run in runs if run in self.answers}


def _candidates(answers: Sequence[JudgedAnswer]) -> Candidates:
    found = frozenset(normal(e) for answer in answers for e in answer.expected)
    return Candidates(found, frozenset(len(answer.split(" ")) for answer in found))


def _mentioned(answer: JudgedAnswer, candidates: Candidates) -> set[str]:
    own = {normal(e) for e in answer.expected}
    named = candidates.in_text(answer.response)
    return {c for c in named if c in own} | (named - candidates.in_text(answer.question))


def _vote(judge: str, correct: bool) -> Vote:
    return Vote(judge, "correct" if correct else "incorrect")
