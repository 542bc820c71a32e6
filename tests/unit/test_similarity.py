"""The filter's verdicts, and FAISS against plain numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from raft_core.facts.guard import Guard, GuardConfig
from raft_core.records import Example, FilteredRewrite, Rewrite
from raft_core.runtime import RuntimeConfig
from raft_core.similarity import FilterConfig, filter_rewrites, guarded, near_pairs

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


def test_near_pairs_equal_brute_force() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(60, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors.T
    brute = [(i, j) for i in range(60) for j in range(i + 1, 60) if cosines[i, j] >= 0.6]
    assert list(near_pairs(vectors, 0.6)) == brute
    assert brute


def test_near_pairs_threshold_itself_counts() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
    assert list(near_pairs(vectors, 1.0)) == [(0, 1)]
