"""The filter's verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from raft_core.config.base import fingerprint
from raft_core.config.runtime import RuntimeConfig
from raft_core.data.records import Example, FilteredRewrite, Rewrite
from raft_core.execution.shards import shards_for
from raft_core.facts.guard import Guard, GuardConfig
from raft_core.refine.filter import FilterConfig, check_ranks, filter_rewrites, guarded, paired

EXAMPLE = Example("a", "Question 12?", "right answer", "train")


class Known:
    """Cosine 1 between texts that share their first word, else 0; remembers what it was asked."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        self.texts += texts
        firsts = ["right", "wrong", "Question"]
        rows = [[float(t.split()[0] == f) for f in firsts] for t in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), 3)


def verdict(text: str, reason: str = "stop", error: str = "", **config: Any) -> FilteredRewrite:
    rewrite = Rewrite("a", text, reason, 3, error)
    return filter_rewrites([EXAMPLE], [rewrite], Known(), FilterConfig(**config))[0]


def test_filter_close_rewrite_passes() -> None:
    assert verdict("right words") == FilteredRewrite(
        "a", "right words", 1.0, True, "", "cosine 1.000"
    )


@pytest.mark.parametrize(
    ("text", "finish", "error", "reason", "detail"),
    [
        ("wrong words", "stop", "", "below_tau", "cosine 0.000"),
        ("right but cut", "length", "", "truncated", "3 tokens"),
        ("right by the Reference Answer", "stop", "", "leaks_the_task", "'reference answer'"),
        ("", "stop", "", "empty", ""),
        ("", "error", "timeout", "generation_failed", "timeout"),
        ("", "too_long", "9 prompt tokens", "prompt_too_long", "9 prompt tokens"),
    ],
)
def test_filter_rejection_has_its_reason(
    text: str, finish: str, error: str, reason: str, detail: str
) -> None:
    rejected = verdict(text, finish, error)
    assert (rejected.passed, rejected.reason, rejected.detail) == (False, reason, detail)
    assert (rejected.similarity is None) == (not text)


def test_filter_answer_that_only_shares_the_question_is_rejected() -> None:
    # In this view both texts start with the question, so their cosine is 1.
    hidden = verdict("wrong words", view="question_answer_words")
    assert hidden.passed
    seen = verdict("wrong words", view="question_answer_words", answer_floor=0.4)
    assert (seen.similarity, seen.reason) == (1.0, "answers_differ")
    assert seen.detail == "cosine 1.000, answers alone 0.000"
    assert verdict("right words", view="question_answer_words", answer_floor=0.4).passed


def test_filter_leak_phrase_inside_another_word_is_none() -> None:
    assert verdict("right it is used as an aid").passed


def test_filter_leak_phrase_that_the_reference_says_is_none() -> None:
    example = Example("a", "q", "right the reference answer is 4", "train")
    rewrite = Rewrite("a", "right the reference answer is 4", "stop", 3)
    assert filter_rewrites([example], [rewrite], Known(), FilterConfig())[0].passed


def test_filter_example_without_rewrite_fails_as_missing() -> None:
    row = filter_rewrites([EXAMPLE], [], Known(), FilterConfig())[0]
    assert (row.id, row.passed, row.reason) == ("a", False, "missing")


def test_filter_tau_zero_passes_any_usable_rewrite() -> None:
    assert verdict("wrong words", tau=0).passed


def test_filter_view_question_and_words_leaves_digits_and_signs_out() -> None:
    embedder = Known()
    config = FilterConfig(view="question_answer_words")
    filter_rewrites([EXAMPLE], [Rewrite("a", "right, 7!", "stop", 3)], embedder, config)
    assert embedder.texts == ["Question right answer", "Question right"]


def test_guarded_facts_decide_over_what_the_cosine_let_through() -> None:
    answer = "right 5 of the 8 were found"
    examples = [Example(i, "How many?", answer, "train") for i in "abc"]
    texts = ["right of the 8 one found 5", "right 6 of the 8 were found", "wrong: 9 of them"]
    rewrites = [Rewrite(i, text, "stop", 3) for i, text in zip("abc", texts, strict=True)]
    plain = filter_rewrites(examples, rewrites, Known(), FilterConfig())
    kept, changed, far = guarded(examples, plain, Guard(GuardConfig(), RuntimeConfig()))
    assert (kept.passed, kept.guard, kept.detail) == (True, {}, "cosine 1.000")
    assert (changed.passed, changed.reason) == (False, "number_changed")
    assert changed.guard == {"number_changed": "lost '5'; new '6'"}
    assert changed.detail == "lost '5'; new '6'"
    assert changed.similarity == 1.0
    assert (far.reason, far.guard) == ("below_tau", None)


class Placed:
    """Every text has its place on the unit circle, by its first word."""

    degrees = {"a": 0, "near_a": 10, "b": 40, "near_b": 35, "between": 20, "A": 0}

    def embed(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        angles_N = np.radians([self.degrees[text.split()[0]] for text in texts])
        return np.stack([np.cos(angles_N), np.sin(angles_N)], axis=1).astype(np.float32)


def ranked(pairs: Sequence[tuple[str, str]], max_rank: int = 1) -> list[FilteredRewrite]:
    """Verdicts on (reference, rewrite) of rows with the ids 0, 1, ..."""
    examples = [Example(str(n), "q", reference, "train") for n, (reference, _) in enumerate(pairs)]
    rewrites = [Rewrite(str(n), rewrite, "stop", 1) for n, (_, rewrite) in enumerate(pairs)]
    config = FilterConfig(tau=0.7, max_rank=max_rank)
    filtered = filter_rewrites(examples, rewrites, Placed(), config)
    return check_ranks(examples, filtered, Placed(), config)[0]


def test_rank_rewrite_of_another_row_is_rejected_with_that_rows_id() -> None:
    first, second = ranked([("a", "near_b"), ("b", "near_b")])
    assert (first.passed, first.reason) == (False, "nearer_to_another")
    assert first.detail == "nearest is the reference of 1"
    assert first.similarity == pytest.approx(np.cos(np.radians(35)), abs=1e-6)
    assert second.passed


def test_rank_reference_of_another_row_that_is_as_near_does_not_count() -> None:
    # Row 1 has the same text, row 2 another text in the same place.
    assert all(v.passed for v in ranked([("a", "near_a"), ("a", "near_a"), ("A", "near_a")]))


def test_rank_two_lets_one_other_reference_be_nearer() -> None:
    pairs = [("a", "near_b"), ("b", "b"), ("between", "between")]
    assert [v.passed for v in ranked(pairs, max_rank=2)] == [False, True, True]
    assert [v.passed for v in ranked(pairs[:2], max_rank=2)] == [True, True]


def test_rank_what_was_rejected_keeps_its_reason() -> None:
    examples = [Example("0", "q", "a", "train"), Example("1", "q", "b", "train")]
    rewrites = [Rewrite("0", "b", "length", 1), Rewrite("1", "b", "stop", 1)]
    config = FilterConfig(tau=0.7, max_rank=1)
    filtered = filter_rewrites(examples, rewrites, Placed(), config)
    assert check_ranks(examples, filtered, Placed(), config)[0] == filtered
    assert filtered[0].reason == "truncated"


def test_rank_check_that_is_off_leaves_the_identity_as_it_was() -> None:
    assert "max_rank" not in fingerprint(FilterConfig())
    assert fingerprint(FilterConfig(max_rank=1)) == {**fingerprint(FilterConfig()), "max_rank": 1}


def test_filter_rewrites_of_shards_meet_their_examples_row_by_row() -> None:
    examples = [Example(f"{n}", "Question?", "right", "train") for n in range(7)]
    rewrites = [Rewrite(e.id, f"right {e.id}", "stop", 1) for e in examples]
    shards = [iter(shard.rows(rewrites)) for shard in shards_for(7, 3)]
    assert list(paired(examples, shards)) == list(zip(examples, rewrites, strict=True))


def test_filter_example_without_its_rewrite_is_missing_and_the_others_are_not() -> None:
    examples = [Example(i, "Question?", "right", "train") for i in "abcdef"]
    rewrites = [Rewrite(i, "right", "stop", 1) for i in "abcdef"]
    first, second = rewrites[0::2], rewrites[1::2]
    del first[1], second[2]  # c and f
    found = {e.id: r.finish_reason for e, r in paired(examples, [iter(first), iter(second)])}
    assert found == dict.fromkeys("abde", "stop") | dict.fromkeys("cf", "missing")
    assert {r.finish_reason for _, r in paired(examples, [])} == {"missing"}
