"""What each stage would ask of its models: prompts as they are, answers as long as references.

A reference's length, cut at the stage's limit, stands for the length of what is written about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from raft_core.cost.tokens import Exchange, Reading, Sample, TokenCounter, sampled
from raft_core.data.records import Example
from raft_core.evaluation.benchmarks.base import Item
from raft_core.evaluation.judges import LlmJudge
from raft_core.refine.fuse import FuseConfig
from raft_core.refine.rewrite import RewriteConfig

# Where nothing tells how long answers are: this share of the limit.
UNKNOWN_SHARE = 1 / 3
# A grade or verdict that is held to given choices, with its end. A model that thinks first is not.
CHOICE_TOKENS = 4


@dataclass(frozen=True)
class Asked:
    """Requests to one model, of which `too_long` have no answer: they do not fit its context.

    `answers` are the sampled lengths, by which engines group what they do at once.
    """

    requests: float
    prompt_tokens: float
    tokens: float
    most: float
    reading: Reading
    answers: Sequence[int] = ()
    longest: int = 0
    too_long: float = 0

    def times(self, factor: float) -> Asked:
        """The same requests so many times."""
        return Asked(
            self.requests * factor,
            self.prompt_tokens * factor,
            self.tokens * factor,
            self.most * factor,
            self.reading.times(factor),
            self.answers,
            self.longest,
            self.too_long * factor,
        )

    def repeated(self, mean: float, most: float) -> Asked:
        """The same requests in so many rounds: `mean` of them expected, `most` at most."""
        return replace(self.times(mean), most=self.most * most)

    def of_length(self, mean: float | None) -> Asked:
        """The same requests with answers of this mean length, if it is known."""
        if mean is None or not self.tokens:
            return self
        change = mean * self.requests / self.tokens
        read = self.reading
        # Of a sequence what is not its answer is its prompt; pairs grow with the length squared.
        length = (read.tokens + (change - 1) * self.tokens) / read.tokens
        reading = Reading(
            read.sequences, read.tokens * length, read.pairs * length**2, read.scored * change
        )
        answers = [max(1, round(each * change)) for each in self.answers]
        return replace(self, tokens=self.tokens * change, reading=reading, answers=answers)

    def less(self, found: int) -> Asked:
        """Without so many of the requests, which are answered already."""
        return self.times(1 - found / self.requests) if self.requests else self

    def __add__(self, other: Asked) -> Asked:
        return Asked(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.tokens + other.tokens,
            self.most + other.most,
            self.reading + other.reading,
            [*self.answers, *other.answers],
            max(self.longest, other.longest),
            self.too_long + other.too_long,
        )


NOTHING = Asked(0, 0, 0, 0, Reading())


def asked(exchanges: Iterable[Exchange], factor: float, context: int | None) -> Asked:
    """Requests of which each stands for `factor` of them; `context` is the model's limit."""
    fitting, too_long = [], 0
    for each in exchanges:
        room = each.most if context is None else min(each.most, context - each.prompt)
        if room < 1:
            too_long += 1
            continue
        fitting.append(Exchange(each.prompt, min(each.answer, room), room))
    lengths = [(e.prompt + e.answer, float(e.answer)) for e in fitting]
    one = Asked(
        requests=len(fitting) + too_long,
        prompt_tokens=sum(e.prompt for e in fitting),
        tokens=sum(e.answer for e in fitting),
        most=sum(e.most for e in fitting),
        reading=Reading.of(lengths),
        answers=[e.answer for e in fitting],
        longest=max((e.prompt + e.most for e in fitting), default=0),
        too_long=too_long,
    )
    return one.times(factor)


def rewriting(
    rows: Sample, config: RewriteConfig, counter: TokenCounter, context: int | None
) -> Asked:
    """One rewrite a training row."""
    prompt, most = config.prompt.load(), config.sampling.max_tokens

    def exchange(row: Example) -> Exchange:
        text = prompt.render(question=row.question, reference=row.answer)
        return Exchange(counter.prompt(text), min(counter.answer(row.answer), most), most)

    return asked(map(exchange, rows), rows.factor, context)


def fusing(rows: Sample, config: FuseConfig, counter: TokenCounter, context: int | None) -> Asked:
    """One round over all training rows; the rewrite is taken to be as long as the reference."""
    prompt, most = config.prompt.load(), config.sampling.max_tokens

    def exchange(row: Example) -> Exchange:
        text = prompt.render(question=row.question, reference=row.answer, rewrite=row.answer)
        return Exchange(counter.prompt(text), min(counter.answer(row.answer), most), most)

    return asked(map(exchange, rows), rows.factor, context)


def grading(
    rows: Sample, prompt_of: str, most: int, counter: TokenCounter, context: int | None
) -> Asked:
    """One grade a row of one round, by one judge that is a language model."""
    from raft_core.prompts import load_prompt

    prompt = load_prompt(prompt_of)

    def exchange(row: Example) -> Exchange:
        text = prompt.render(question=row.question, reference=row.answer, fused=row.answer)
        return Exchange(counter.prompt(text), min(CHOICE_TOKENS, most), most)

    return asked(map(exchange, rows), rows.factor, context)


def answering(
    items: Sequence[Item], most: int, counter: TokenCounter, context: int | None, seed: int = 0
) -> Asked:
    """Answers to one benchmark's prompts."""
    some = sampled(items, seed)

    def exchange(item: Item) -> Exchange:
        return Exchange(counter.prompt(item.prompt), answer_length(item, most, counter), most)

    return asked(map(exchange, some), some.factor, context)


def answer_length(item: Item, most: int, counter: TokenCounter) -> int:
    """As long as the reference; without one a share of the limit."""
    known = counter.answer(item.reference) if item.reference else round(most * UNKNOWN_SHARE)
    return max(1, min(known, most))


def judging(
    items: Sequence[Item],
    judge: LlmJudge,
    response_limit: int,
    counter: TokenCounter,
    context: int | None,
) -> Asked:
    """One judge's verdicts on one benchmark; the response is taken to be like the reference."""
    prompt, some = judge.prompt.load(), sampled(items)

    def exchange(item: Item) -> Exchange:
        text = prompt.render(
            question=item.question, reference=item.reference, response=item.reference
        )
        missing = 0 if item.reference else answer_length(item, response_limit, counter)
        return Exchange(
            counter.prompt(text) + missing, min(CHOICE_TOKENS, judge.max_tokens), judge.max_tokens
        )

    return asked(map(exchange, some), some.factor, context)


def mean_rounds(candidates: Sequence[int], rounds: int) -> float:
    """Rounds a fused row has taken in earlier fusions; half way between one and all of unknown."""
    return fmean(candidates) if candidates else (1 + rounds) / 2
