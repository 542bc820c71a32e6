"""Semantic filter (eqs. 2-3): keep a rewrite only if it still means what the reference says.

Also the nearest-neighbour search over unit vectors that deduplication uses (FAISS, exact).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from raft_core.config import FrozenConfig
from raft_core.engines import Embedder, EmbedderConfig, open_embedder
from raft_core.records import (
    Example,
    FilteredRewrite,
    Rejection,
    Rewrite,
    read_records,
    write_jsonl,
)
from raft_core.stage import StageRun

VERSION = 1

LEAK_PHRASES = (
    "reference answer",
    "reference knowledge",
    "background knowledge",
    "provided answer",
    "given answer",
    "original answer",
    "based on the reference",
    "according to the reference",
    "in my own words",
    "in your own words",
    "rewritten answer",
    "as an ai",
)


class FilterConfig(FrozenConfig):
    """What a rewrite must pass before it replaces its reference.

    `view` is what is embedded: the answers alone (the paper), or question and answer with digits
    and punctuation left out, which separates right from wrong where answers are short.
    """

    tau: Annotated[float, Field(ge=0, le=1)] = 0.8
    view: Literal["answer", "question_answer_words"] = "answer"
    leak_phrases: tuple[str, ...] = LEAK_PHRASES


class FilterStage(FrozenConfig):
    filter: FilterConfig
    encoder: EmbedderConfig


def run(stage: StageRun) -> None:
    """Writes filtered.jsonl, a verdict for every row; the rejected keep their references."""
    config: FilterStage = stage.config
    examples = read_records(stage.inputs["prepare"] / "train.jsonl", Example)
    rewrites = [
        rewrite
        for name, folder in sorted(stage.inputs.items())
        if name.startswith("rewrite")
        for rewrite in read_records(folder / "rewrites.jsonl", Rewrite)
    ]
    stage.progress.start("filter", len(examples))
    embedder = open_embedder(config.encoder, stage.runtime)
    filtered = filter_rewrites(examples, rewrites, embedder, config.filter)
    write_jsonl(stage.out / "filtered.jsonl", filtered)
    rejected = [
        Rejection(row.id, "filter", row.reason, f"cosine {row.similarity:.3f}")
        for row in filtered
        if not row.passed
    ]
    stage.account(len(examples), len(filtered) - len(rejected), rejected)
    stage.progress.advance(len(examples))


def filter_rewrites(
    examples: Sequence[Example],
    rewrites: Sequence[Rewrite],
    embedder: Embedder,
    config: FilterConfig,
) -> list[FilteredRewrite]:
    """One verdict per example, in order; an example without a rewrite fails as `missing`."""
    by_id = {rewrite.id: rewrite for rewrite in rewrites}
    texts = [by_id[e.id].text if e.id in by_id else "" for e in examples]
    references_ND = embedder.embed([_view(e.question, e.answer, config.view) for e in examples])
    rewrites_ND = embedder.embed(
        [_view(e.question, text, config.view) for e, text in zip(examples, texts, strict=True)]
    )
    cosines_N = (references_ND * rewrites_ND).sum(axis=1)
    filtered = []
    for example, text, cosine in zip(examples, texts, cosines_N.tolist(), strict=True):
        reason = _reject_reason(by_id.get(example.id), cosine, config)
        filtered.append(FilteredRewrite(example.id, text, round(cosine, 6), not reason, reason))
    return filtered


def _reject_reason(rewrite: Rewrite | None, cosine: float, config: FilterConfig) -> str:
    if rewrite is None:
        return "missing"
    if rewrite.finish_reason == "error":
        return "generation_failed"
    if not rewrite.text:
        return "empty"
    if rewrite.finish_reason == "length":
        return "truncated"
    lowered = rewrite.text.casefold()
    if any(phrase in lowered for phrase in config.leak_phrases):
        return "leaks_the_task"
    return "" if cosine >= config.tau else "below_tau"


def _view(question: str, answer: str, view: str) -> str:
    if view == "answer":
        return answer
    return " ".join(re.findall(r"[^\W\d_]+", f"{question} {answer}"))


def near_pairs(vectors_ND: np.ndarray[Any, Any], threshold: float) -> Iterator[tuple[int, int]]:
    """Pairs (i, j), i < j, of unit rows whose cosine is at least `threshold`, by i, then j."""
    import faiss

    index = faiss.IndexFlatIP(vectors_ND.shape[1])
    index.add(vectors_ND)
    # range_search keeps scores strictly above its radius
    starts, _, neighbours = index.range_search(vectors_ND, float(np.nextafter(threshold, 0)))
    for row in range(len(vectors_ND)):
        for other in sorted(neighbours[starts[row] : starts[row + 1]].tolist()):
            if other > row:
                yield row, other
