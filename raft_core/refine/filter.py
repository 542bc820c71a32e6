"""Semantic filter (eqs. 2-3): keep a rewrite only if it still means what the reference says.

What the cosine lets through is held against the facts of the reference (`facts/guard.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from raft_core.config.base import FrozenConfig
from raft_core.data.matching import LEAK_PHRASES, mentions
from raft_core.data.records import (
    Example,
    FilteredRewrite,
    Rejection,
    Rewrite,
    iter_records,
    write_jsonl,
)
from raft_core.engines import Embedder, EmbedderConfig, open_embedder
from raft_core.execution.stage import Reads, Stage, StageConfig, StageRun
from raft_core.facts.guard import Claim, Guard, GuardConfig

if TYPE_CHECKING:
    from raft_core.data.neighbours import SearchReport

BLOCK_ROWS = 4096

Pair = tuple[Example, Rewrite]
View = Literal["answer", "question_answer_words"]


class FilterConfig(FrozenConfig):
    """What a rewrite must pass before it replaces its reference.

    A leak phrase talks about the task; it counts where the reference does not say it itself.
    `view` is what is embedded: the answers alone (the paper), or question and answer with digits
    and punctuation left out, which separates right from wrong where answers are short.
    """

    tau: Annotated[float, Field(ge=0, le=1)] = 0.8
    view: View = "answer"
    answer_floor: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="least cosine of the answers alone; a shared question hides what differs"
    )
    leak_phrases: tuple[str, ...] = LEAK_PHRASES
    max_rank: Annotated[int, Field(gt=0)] | None = Field(
        None,
        description="a rewrite's own reference must be among its so many nearest ones; not for "
        "domains with paraphrases of a row",
    )

    @property
    def views(self) -> tuple[View, ...]:
        """All in which answers are compared."""
        return (self.view, "answer") if self.answer_floor > 0 else (self.view,)

    def identity(self) -> dict[str, Any]:
        """Without the rank check it is what it was before there was one."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return {k: v for k, v in fields.items() if (k, v) != ("max_rank", None)}


class FilterStage(StageConfig):
    filter: FilterConfig
    encoder: EmbedderConfig
    guard: GuardConfig | None = None

    def identity(self) -> dict[str, Any]:
        """Without a guard, the paper's plain filter."""
        plain = {"filter": self.filter, "encoder": self.encoder}
        return plain if self.guard is None else plain | {"guard": self.guard}

    def reads(self) -> Reads:
        return {"prepare": ("train.jsonl",), "rewrite": ("rewrites.jsonl",)}


FILTER = Stage("filter", 1, FilterStage, "raft_core.refine.filter")


def run(stage: StageRun) -> None:
    """Writes filtered.jsonl, a verdict for every row; the rejected keep their references."""
    config: FilterStage = stage.config
    train = stage.inputs["prepare"] / "train.jsonl"
    with open(train, "rb") as lines:
        rows = sum(1 for _ in lines)
    stage.progress.start("filter", rows)
    pairs = paired(iter_records(train, Example), rewrite_shards(stage.inputs.all("rewrite")))
    embedder = open_embedder(config.encoder, stage)
    guard = None if config.guard is None else Guard(config.guard, stage.runtime)
    rejected: list[Rejection] = []

    def verdicts() -> Iterator[FilteredRewrite]:
        for block in blocks(pairs, block_rows(config)):
            filtered = judged_block(block, embedder, guard, config, stage)
            rejected.extend(
                Rejection(row.id, "filter", row.reason, row.detail)
                for row in filtered
                if not row.passed
            )
            yield from filtered
            stage.progress.advance(len(filtered))

    written = write_jsonl(stage.out / "filtered.jsonl", verdicts())
    stage.account(written, written - len(rejected), rejected)


def rewrite_shards(folders: Sequence[Path]) -> list[Iterator[Rewrite]]:
    """The rewrites of every shard, in the order of the shards."""
    return [iter_records(folder / "rewrites.jsonl", Rewrite) for folder in folders]


def paired(examples: Iterable[Example], shards: Sequence[Iterator[Rewrite]]) -> Iterator[Pair]:
    """Every example with its rewrite; row i stands in shard i modulo their number (`shards.py`).

    An example whose rewrite is not next in its shard has none.
    """
    ahead = [next(shard, None) for shard in shards]
    for place, example in enumerate(examples):
        of = place % max(1, len(shards))
        found = ahead[of] if ahead else None
        if found is None or found.id != example.id:
            yield example, Rewrite(example.id, "", "missing", 0)
            continue
        ahead[of] = next(shards[of], None)
        yield example, found


def block_rows(config: FilterStage) -> int | None:
    """How many rows are held at once; None, all, where ranks are checked or a model compares.

    Ranks are those among all references, and the model's batches shall stay what they were.
    """
    needs_all = config.filter.max_rank is not None or (config.guard and config.guard.nli)
    return None if needs_all else BLOCK_ROWS


def blocks(pairs: Iterator[Pair], rows: int | None) -> Iterator[list[Pair]]:
    while block := list(islice(pairs, rows)):
        yield block


def judged_block(
    block: Sequence[Pair],
    embedder: Embedder,
    guard: Guard | None,
    config: FilterStage,
    stage: StageRun,
) -> list[FilteredRewrite]:
    """Verdicts of some rows, in order."""
    examples, rewrites = [e for e, _ in block], [r for _, r in block]
    filtered = filter_rewrites(examples, rewrites, embedder, config.filter)
    if config.filter.max_rank is not None:
        threads = stage.runtime.threads_per_stage
        filtered, report = check_ranks(examples, filtered, embedder, config.filter, threads)
        if report.kind != "exact":
            stage.progress.note(f"rank check: approximate search, {report.as_json()}")
    return filtered if guard is None else guarded(examples, filtered, guard)


def filter_rewrites(
    examples: Sequence[Example],
    rewrites: Sequence[Rewrite],
    embedder: Embedder,
    config: FilterConfig,
) -> list[FilteredRewrite]:
    """One verdict per example, in order; an example without a rewrite fails as `missing`."""
    by_id = {rewrite.id: rewrite for rewrite in rewrites}
    found = [by_id.get(e.id) or Rewrite(e.id, "", "missing", 0) for e in examples]
    pairs = [(e, r) for e, r in zip(examples, found, strict=True) if r.text]
    viewed = _cosines(pairs, embedder, config.view)
    alone = _cosines(pairs, embedder, "answer") if config.answer_floor > 0 else {}
    return [
        _verdict(example, rewrite, viewed.get(example.id), alone.get(example.id), config)
        for example, rewrite in zip(examples, found, strict=True)
    ]


def check_ranks(
    examples: Sequence[Example],
    filtered: Sequence[FilteredRewrite],
    embedder: Embedder,
    config: FilterConfig,
    threads: int = 1,
) -> tuple[list[FilteredRewrite], SearchReport]:
    """Reject what passed and is nearer to references of other rows, `max_rank` of them or more.

    References that look alike in the filter's view are one.
    """
    import numpy as np

    from raft_core.data.neighbours import nearer_rows

    assert config.max_rank is not None
    views = [view_of(e.question, e.answer, config.view) for e in examples]
    first_of: dict[str, int] = {}
    for row, view in enumerate(views):
        first_of.setdefault(view, row)
    place_of = {view: place for place, view in enumerate(first_of)}
    tested = [row for row, verdict in enumerate(filtered) if verdict.passed]
    queries_ND = embedder.embed(
        [view_of(examples[row].question, filtered[row].text, config.view) for row in tested]
    )
    own_N = np.array([place_of[views[row]] for row in tested], dtype=np.int64)
    references_MD = embedder.embed(list(first_of))
    nearest_N, report = nearer_rows(
        queries_ND, references_MD, own_N, config.max_rank, threads=threads
    )
    verdicts, rows = list(filtered), list(first_of.values())
    for row, nearest in zip(tested, nearest_N.tolist(), strict=True):
        if nearest >= 0:
            detail = f"nearest is the reference of {examples[rows[nearest]].id}"
            verdicts[row] = replace(
                filtered[row], passed=False, reason="nearer_to_another", detail=detail
            )
    return verdicts, report


def guarded(
    examples: Sequence[Example], filtered: Sequence[FilteredRewrite], guard: Guard
) -> list[FilteredRewrite]:
    """The verdicts after a look at the facts of every rewrite that passed so far."""
    claims = [
        Claim(example.question, example.answer, rewrite.text, example.expected)
        for example, rewrite in zip(examples, filtered, strict=True)
        if rewrite.passed
    ]
    found = iter(guard.check(claims))
    return [_guarded(row, next(found)) if row.passed else row for row in filtered]


def _guarded(rewrite: FilteredRewrite, failures: dict[str, str]) -> FilteredRewrite:
    if not failures:
        return replace(rewrite, guard={})
    reason, detail = next(iter(failures.items()))
    return replace(rewrite, passed=False, reason=reason, detail=detail, guard=failures)


def _cosines(
    pairs: Sequence[tuple[Example, Rewrite]], embedder: Embedder, view: str
) -> dict[str, float]:
    """Id -> cosine of reference and rewrite, both seen in this view."""
    references_ND = embedder.embed([view_of(e.question, e.answer, view) for e, _ in pairs])
    rewrites_ND = embedder.embed([view_of(e.question, r.text, view) for e, r in pairs])
    cosines_N = (references_ND * rewrites_ND).sum(axis=1).tolist()
    return {e.id: cosine for (e, _), cosine in zip(pairs, cosines_N, strict=True)}


def _verdict(
    example: Example,
    rewrite: Rewrite,
    cosine: float | None,
    alone: float | None,
    config: FilterConfig,
) -> FilteredRewrite:
    reason, detail = _reject_reason(example, rewrite, config)
    if cosine is not None and not reason:
        detail = f"cosine {cosine:.3f}"
        if cosine < config.tau:
            reason = "below_tau"
        elif alone is not None and alone < config.answer_floor:
            reason, detail = "answers_differ", f"cosine {cosine:.3f}, answers alone {alone:.3f}"
    rounded = None if cosine is None else round(cosine, 6)
    return FilteredRewrite(rewrite.id, rewrite.text, rounded, not reason, reason, detail)


def _reject_reason(example: Example, rewrite: Rewrite, config: FilterConfig) -> tuple[str, str]:
    """Reason and detail why a rewrite is useless whatever its cosine; empty if it is not."""
    unusable = {"missing": "missing", "error": "generation_failed", "too_long": "prompt_too_long"}
    if rewrite.finish_reason in unusable:
        return unusable[rewrite.finish_reason], rewrite.error
    if not rewrite.text:
        return "empty", ""
    if rewrite.finish_reason == "length":
        return "truncated", f"{rewrite.tokens} tokens"
    leaked = [
        phrase
        for phrase in config.leak_phrases
        if mentions(rewrite.text, phrase) and not mentions(example.answer, phrase)
    ]
    return ("leaks_the_task", f"'{leaked[0]}'") if leaked else ("", "")


def view_of(question: str, answer: str, view: str) -> str:
    """The text of an answer that is embedded."""
    if view == "answer":
        return answer
    return " ".join(re.findall(r"[^\W\d_]+", f"{question} {answer}"))
