"""The rows to learn: raw answers, the model's own rewrites (SDFT), or fused answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from raft_core.data.matching import mentions
from raft_core.data.records import Example, FilteredRewrite, FusedAnswer, read_records
from raft_core.distill.config import Targets

BY_COSINE = ("below_tau", "answers_differ", "nearer_to_another")


def load_targets(inputs: dict[str, Path], targets: Targets) -> list[FusedAnswer]:
    """Read one row per training example, with the answer that this method learns."""
    if targets == "fused":
        return read_records(inputs["fuse"] / "fused.jsonl", FusedAnswer)
    examples = read_records(inputs["prepare"] / "train.jsonl", Example)
    if targets == "rewritten":
        filtered = read_records(inputs["filter"] / "filtered.jsonl", FilteredRewrite)
        return rewritten_targets(examples, filtered)
    return [FusedAnswer(e.id, e.question, e.answer, "reference") for e in examples]


def rewritten_targets(
    examples: Sequence[Example], filtered: Sequence[FilteredRewrite]
) -> list[FusedAnswer]:
    """Choose SDFT's targets (Yang et al. 2024): the rewrite where it is usable, else the answer.

    Its answer is checked against the row's `expected` strings; a row without any is checked by the
    semantic filter instead.
    """
    return [
        FusedAnswer(example.id, example.question, rewrite.text, "rewrite")
        if is_kept(example, rewrite)
        else FusedAnswer(example.id, example.question, example.answer, "reference")
        for example, rewrite in zip(examples, filtered, strict=True)
    ]


def is_kept(example: Example, rewrite: FilteredRewrite) -> bool:
    """Return whether a rewrite leaks nothing and states every `expected` string of its row.

    A row without such strings takes the semantic filter's word.
    """
    if not example.expected:
        return rewrite.passed
    usable = rewrite.passed or rewrite.reason in BY_COSINE or bool(rewrite.guard)
    return usable and all(mentions(rewrite.text, value) for value in example.expected)
