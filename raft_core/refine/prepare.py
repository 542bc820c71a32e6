"""Stage `prepare`: rows of a domain become checked, split and deduplicated examples.

Rows in = rows kept + rows rejected, each rejection with its reason.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from raft_core.config.base import EXACT_BELOW, FrozenConfig
from raft_core.data.records import SPLITS, Example, Rejection, Split, write_jsonl
from raft_core.data.sources import (
    DataSource,
    checked_expected,
    checked_id,
    question_and_answer,
    read_rows,
)
from raft_core.engines import Embedder, EmbedderConfig, open_embedder
from raft_core.errors import InputError
from raft_core.execution.stage import Stage, StageConfig, StageRun

if TYPE_CHECKING:
    from raft_core.data.neighbours import SearchReport

# Han, kana and Hangul signs one by one, all else in words.
SPACELESS = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
WORD = re.compile(rf"[{SPACELESS}]|[^\W{SPACELESS}]+")
CACHED_QUESTIONS = 100_000  # as words; a near row is met again soon
OPTIONAL = ("split", "expected")
DOMAIN_NAME = r"[a-z0-9][a-z0-9_-]{0,63}"
Fraction = Annotated[float, Field(ge=0, lt=1)]


class DomainConfig(FrozenConfig):
    """One domain: its name and its data."""

    name: Annotated[str, Field(pattern=f"^{DOMAIN_NAME}$")]
    data: DataSource
    description: str = ""
    limit: Annotated[int, Field(gt=0)] | None = Field(
        None, description="use this many rows, chosen by the hash of their ids"
    )

    def identity(self) -> dict[str, Any]:
        """What the rows are, not what the domain is called."""
        return {"data": self.data, "limit": self.limit}


class PrepareConfig(FrozenConfig):
    """How rows are split and what counts as a duplicate.

    Two questions are near-duplicates when their cosine reaches `near_duplicate_cosine` and they
    share at least `near_duplicate_words` of their words (Jaccard): templated questions about
    different things are close in vector space and must not be dropped. Pairs that cannot share so
    many are turned away before their cosine is taken (`word_signatures`). From `exact_below` rows
    on the search is approximate, and neighbours.json tells its recall.
    """

    validation_fraction: Fraction = 0.1
    test_fraction: Fraction = 0.1
    near_duplicate_cosine: Annotated[float, Field(gt=0, le=1)] = 0.95
    near_duplicate_words: Annotated[float, Field(gt=0, le=1)] = 0.9
    exact_below: Annotated[int, Field(gt=0)] = EXACT_BELOW

    def identity(self) -> dict[str, Any]:
        """The default stood for every row before it was a setting, so it has no part."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return {k: v for k, v in fields.items() if (k, v) != ("exact_below", EXACT_BELOW)}

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> PrepareConfig:
        if self.validation_fraction + self.test_fraction >= 0.9:
            raise ValueError("validation_fraction + test_fraction must stay below 0.9")
        return self


class PrepareStage(StageConfig):
    domain: DomainConfig
    prepare: PrepareConfig
    encoder: EmbedderConfig


PREPARE = Stage(
    "prepare",
    1,
    PrepareStage,
    "raft_core.refine.prepare",
    needs=("torch", "sentence_transformers", "faiss"),
)


def run(stage: StageRun) -> None:
    """Writes train.jsonl, validation.jsonl, test.jsonl, rejected.jsonl and, with the texts of
    what was rejected, rejected_rows.jsonl.
    """
    config: PrepareStage = stage.config
    examples = load_examples(config.domain, config.prepare)
    stage.progress.start("prepare", len(examples))
    distinct, rejected = drop_exact_duplicates(examples)
    kept, near, report = drop_near_duplicates(
        distinct,
        open_embedder(config.encoder, stage),
        config.prepare,
        threads=stage.runtime.threads_per_stage,
    )
    rejected += near
    if report.kind != "exact":
        told = json.dumps(report.as_json(), indent=1)
        (stage.out / "neighbours.json").write_text(told)
        stage.progress.note(f"near-duplicates: approximate search, {told}")
    require_splits(kept, config.domain)
    for split in SPLITS:
        write_jsonl(stage.out / f"{split}.jsonl", (e for e in kept if e.split == split))
    by_id = {example.id: example for example in examples}
    write_jsonl(stage.out / "rejected_rows.jsonl", (by_id[r.id] for r in rejected))
    stage.account(len(examples), len(kept), rejected)
    stage.progress.advance(len(examples))


def load_examples(domain: DomainConfig, config: PrepareConfig) -> list[Example]:
    """Every row as a checked example, in file order (or the `limit` lowest by id hash).

    Raises:
        InputError: a row breaks the schema, an id appears twice, or there is no row.
    """
    examples: list[Example] = []
    seen: dict[str, str] = {}
    for where, row in read_rows(
        domain.data, (*domain.data.columns.pair, domain.data.columns.id, *OPTIONAL)
    ):
        example = _example(where, row, domain.data, config)
        if example.id in seen and row.get(domain.data.columns.id) is not None:
            raise InputError(
                f"{where}: field 'id' repeats '{example.id}' of {seen[example.id]}; "
                "make ids unique or leave them out"
            )
        if example.id in seen:  # the same text again: to be rejected as a duplicate
            example = replace(example, id=f"{example.id}-{len(seen)}")
        seen[example.id] = where
        examples.append(example)
    if not examples:
        raise InputError(f"data '{domain.data.path}': no rows")
    if domain.limit is None:
        return examples
    chosen = {e.id for e in sorted(examples, key=lambda e: _hash(e.id))[: domain.limit]}
    return [e for e in examples if e.id in chosen]


def _example(where: str, row: dict[str, Any], source: DataSource, config: PrepareConfig) -> Example:
    question, answer = question_and_answer(where, row, source.columns)
    own = checked_id(where, row.get(source.columns.id))
    identity = f"{_hash(question, answer):064x}"[:16] if own is None else own
    named = row.get("split")
    split = split_by_hash(identity, config) if named is None or named == "" else named
    if split not in SPLITS:
        shown = repr(split)[:60]
        raise InputError(f"{where}: field 'split' is {shown}, not one of {', '.join(SPLITS)}")
    return Example(identity, question, answer, split, checked_expected(where, row))


def split_by_hash(row_id: str, config: PrepareConfig) -> Split:
    """The split of a row, by its id alone: adding rows moves no other row."""
    position = _hash("split", row_id) / 2**256
    if position < config.test_fraction:
        return "test"
    if position < config.test_fraction + config.validation_fraction:
        return "validation"
    return "train"


def drop_exact_duplicates(examples: Sequence[Example]) -> tuple[list[Example], list[Rejection]]:
    """Keep the first of rows whose question and answer are equal up to case and spacing.

    A held-out row wins over a training row, so that no test question is trained on.
    """
    kept: dict[tuple[str, str], Example] = {}
    rejected = []
    for example in _held_out_first(examples):
        text = (_normal(example.question), _normal(example.answer))
        if text in kept:
            first = kept[text].id
            rejected.append(Rejection(example.id, "prepare", "exact_duplicate", f"of {first}"))
        else:
            kept[text] = example
    surviving = {e.id for e in kept.values()}
    return [e for e in examples if e.id in surviving], rejected


def drop_near_duplicates(
    examples: Sequence[Example], embedder: Embedder, config: PrepareConfig, *, threads: int = 1
) -> tuple[list[Example], list[Rejection], SearchReport]:
    """Decontaminate: no kept question is a near-duplicate of a held-out or an earlier one.

    Pairs that cannot share enough words are left out of the search by their signatures, which turn
    away no pair that would be dropped.
    """
    from raft_core.data.neighbours import NearPairs
    from raft_core.data.word_signatures import WordSignatures

    ordered = _held_out_first(examples)
    asked = (frozenset(comparable_words(example.question)) for example in ordered)
    pairs = NearPairs(
        embedder.embed([e.question for e in ordered]),
        config.near_duplicate_cosine,
        exact_below=config.exact_below,
        threads=threads,
        possible=WordSignatures(asked, config.near_duplicate_words).may_share,
    )

    @lru_cache(CACHED_QUESTIONS)
    def words(row: int) -> frozenset[str]:
        return frozenset(comparable_words(ordered[row].question))

    dropped: dict[tuple[int, int], Rejection] = {}
    for first, second in pairs:
        if pairs.skip[second]:
            continue
        shared = len(words(first) & words(second)) / max(1, len(words(first) | words(second)))
        if shared < config.near_duplicate_words:
            continue
        pairs.skip[second] = True
        leaks = ordered[first].split != ordered[second].split
        dropped[first, second] = Rejection(
            ordered[second].id,
            "prepare",
            "near_duplicate_of_held_out" if leaks else "near_duplicate",
            f"of {ordered[first].id}, {shared:.2f} of the words shared",
        )
    rejected = [dropped[pair] for pair in sorted(dropped)]
    gone = {rejection.id for rejection in rejected}
    return [e for e in examples if e.id not in gone], rejected, pairs.report


def require_splits(kept: Sequence[Example], domain: DomainConfig) -> None:
    """Every split must have rows.

    Raises:
        InputError: one is empty.
    """
    counts = {split: sum(e.split == split for e in kept) for split in SPLITS}
    if not all(counts.values()):
        told = ", ".join(f"{split} {count}" for split, count in counts.items())
        raise InputError(
            f"data '{domain.data.path}': {len(kept)} rows leave a split empty ({told}); "
            "give more rows (about 60 at least), raise the limit, or set a 'split' field"
        )


def _held_out_first(examples: Sequence[Example]) -> list[Example]:
    rank = {"test": 0, "validation": 1, "train": 2}
    return sorted(examples, key=lambda e: rank[e.split])


def comparable_words(text: str) -> tuple[str, ...]:
    """Words without case, punctuation or Unicode variants; signs of scripts without spaces alone.

    A text of nothing but signs (a formula, a pattern) is compared as it is.
    """
    return tuple(WORD.findall(_normal(text))) or tuple(_normal(text).split())


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _hash(*parts: str) -> int:
    return int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest(), "big")
