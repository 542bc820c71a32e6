"""How many tokens texts have: by the model's tokenizer where it is here, else by characters."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import Any, TypeVar

from raft_core.app.model_checks import PROBE, tokens_and_template
from raft_core.cost.models import KnownModel
from raft_core.engines.chat_templates import render
from raft_core.errors import InputError

CHARACTERS_A_TOKEN = 4
# Of a chat template around one user message, where the template is not here.
TEMPLATE_TOKENS = 20
SAMPLED = 400
DRAWS = 64
Row = TypeVar("Row")


@dataclass(frozen=True)
class TokenCounter:
    """Counts as one model does. Without its tokenizer four characters are a token."""

    tokenizer: Any = None
    before: str = ""
    after: str = ""

    @property
    def source(self) -> str:
        return "its tokenizer" if self.tokenizer else f"{CHARACTERS_A_TOKEN} characters a token"

    def text(self, text: str) -> int:
        """Tokens of a text by itself."""
        if self.tokenizer is None:
            return -(-len(text) // CHARACTERS_A_TOKEN)
        return encoded_length(self.tokenizer, text)

    def answer(self, text: str) -> int:
        """Tokens of an answer with the one that ends it."""
        return self.text(text) + 1

    def prompt(self, message: str) -> int:
        """Tokens of a user's message up to and including the assistant's start."""
        if self.tokenizer is None:
            return self.text(message) + TEMPLATE_TOKENS
        return self.text(f"{self.before}{message}{self.after}")


@lru_cache(maxsize=20_000)
def encoded_length(tokenizer: Any, text: str) -> int:
    """Stages share most of their texts: methods the rows, models the benchmarks."""
    return len(tokenizer.encode(text, add_special_tokens=False).ids)


BY_CHARACTERS = TokenCounter()


@lru_cache(maxsize=16)
def counter_of(model: KnownModel) -> TokenCounter:
    """The counter of a model; by characters where its tokenizer or template is not here."""
    file = None if model.folder is None else model.folder / "tokenizer.json"
    if model.folder is None or file is None or not file.is_file():
        return BY_CHARACTERS
    from tokenizers import Tokenizer

    try:
        special, template = tokens_and_template(model.folder, model.name)
        tokenizer = Tokenizer.from_file(str(file))
    except (InputError, OSError, ValueError, KeyError):
        return BY_CHARACTERS
    tokenizer.no_truncation()
    # A template takes a thousand times longer to render than its text to be split into tokens.
    around = render(template, PROBE, special) if template else ""
    before, shown, after = around.partition(PROBE)
    return TokenCounter(tokenizer, before, after) if shown else BY_CHARACTERS


@dataclass(frozen=True, slots=True)
class Reading:
    """What a network reads, summed over sequences; numbers may stand for more rows than counted.

    `pairs` counts (token, token it attends to), L (L + 1) / 2 for a sequence of L; `scored` the
    positions at which the output layer is computed.
    """

    sequences: float = 0
    tokens: float = 0
    pairs: float = 0
    scored: float = 0

    @classmethod
    def of(cls, lengths: Iterable[tuple[float, float]]) -> Reading:
        """Of (length, scored positions), one a sequence."""
        total = cls()
        for length, scored in lengths:
            total += cls(1, length, length * (length + 1) / 2, scored)
        return total

    def __add__(self, other: Reading) -> Reading:
        return Reading(
            self.sequences + other.sequences,
            self.tokens + other.tokens,
            self.pairs + other.pairs,
            self.scored + other.scored,
        )

    def times(self, factor: float) -> Reading:
        """Of so many times the sequences."""
        return Reading(*(factor * getattr(self, name) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Exchange:
    """Tokens of one request: its prompt, the expected answer, and the longest possible one."""

    prompt: int
    answer: int
    most: int


@dataclass(frozen=True)
class Sample:
    """Some of the rows, chosen by a seed, that stand for all of them."""

    rows: Sequence[Any]
    of: int

    @property
    def factor(self) -> float:
        """How many rows each of them stands for."""
        return self.of / len(self.rows) if self.rows else 0.0

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)


def sampled(rows: Sequence[Row], seed: int = 0) -> Sample:
    """At most `SAMPLED` of the rows, always the same ones."""
    if len(rows) <= SAMPLED:
        return Sample(rows, len(rows))
    return Sample(random.Random(seed).sample(list(rows), SAMPLED), len(rows))


def expected_longest(lengths: Sequence[int], batch: int) -> float:
    """The mean of the longest of `batch` rows drawn from these lengths; 0 of none."""
    if not lengths:
        return 0.0
    if batch >= len(lengths):
        return max(lengths)
    draw = random.Random(0)
    return fmean(max(draw.choices(lengths, k=batch)) for _ in range(DRAWS))
