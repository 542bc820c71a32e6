"""The losses against arithmetic by hand and against a dense float64 reference."""

from __future__ import annotations

from collections.abc import Callable
from math import log
from random import Random

import pytest
import torch

from raft_core.distill.loss import chunked
from raft_core.distill.loss.chunked import Head
from raft_core.distill.loss.losses import (
    TeacherTarget,
    cross_entropy,
    mass_and_entropy,
    sequence_weights,
    teacher_target,
    topk_kl,
)

# Dimensions as in raft_core.distill.loss.losses.
B, T, D, V = 3, 5, 8, 17


def identity_head(vocabulary: int, dtype: torch.dtype = torch.float32) -> Head:
    """An output layer under which hidden states are the logits."""
    return Head(torch.eye(vocabulary, dtype=dtype))


def kl_of_logits(
    student_NV: torch.Tensor, teacher_NV: torch.Tensor, lengths: list[int], top_k: int, t: float
) -> torch.Tensor:
    head = identity_head(student_NV.shape[-1], student_NV.dtype)
    target = teacher_target(teacher_NV, head, top_k)
    return topk_kl(student_NV, head, target, sequence_weights(torch.tensor(lengths)), t)


def dense_kl(
    student_NV: torch.Tensor,
    teacher_NV: torch.Tensor,
    lengths: list[int],
    top_k: int,
    temperature: float,
    tail: bool = False,
) -> torch.Tensor:
    """Eqs. 8-10 as they are written: full softmax, restriction, renormalisation, in loops."""
    q_NV = (teacher_NV.double() / temperature).softmax(-1)
    p_NV = (student_NV.double() / temperature).softmax(-1)
    total, start = p_NV.sum() * 0, 0
    for length in lengths:
        for n in range(start, start + length):
            order = q_NV[n].argsort(descending=True)
            kept, others = order[:top_k], order[top_k:]
            q, p = q_NV[n, kept], p_NV[n, kept]
            if tail:
                q = torch.cat([q, q_NV[n, others].sum()[None]])
                p = torch.cat([p, p_NV[n, others].sum()[None]])
            else:
                q, p = q / q.sum(), p / p.sum()
            total = total + (q * (q / p).log()).sum() / length
        start += length
    return temperature**2 * total / len(lengths)


def dense_cross_entropy(logits_NV: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(logits_NV.double(), labels_N)


class Case:
    """Random student, teacher and lengths; some rollouts are empty."""

    def __init__(self, number: int, dtype: torch.dtype = torch.float32) -> None:
        rng, self.generator = Random(number), torch.Generator().manual_seed(number)
        self.vocabulary = rng.choice([2, 7, 33, 120])
        self.top_k = rng.choice([1, 2, self.vocabulary // 2 or 1, self.vocabulary, 500])
        self.temperature = rng.choice([0.7, 1.0, 1.5, 3.0])
        self.lengths = [rng.choice([0, 1, 2, 6]) for _ in range(rng.randint(1, 5))]
        self.tokens = sum(self.lengths)
        size = rng.choice([1, 5, 16])
        scale = rng.choice([0.3, 1.0, 3.0])
        self.hidden = (scale * self._randn(self.tokens, size)).to(dtype)
        self.weight = self._randn(self.vocabulary, size).to(dtype)
        self.bias = self._randn(self.vocabulary).to(dtype) if rng.random() < 0.5 else None
        self.teacher = 2 * self._randn(self.tokens, self.vocabulary)
        self.labels = torch.randint(self.vocabulary, (self.tokens,), generator=self.generator)
        self.counts = torch.tensor(self.lengths)

    def _randn(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator)

    def leaves(self, dtype: torch.dtype | None = None) -> list[torch.Tensor]:
        found = [self.hidden, self.weight, *([] if self.bias is None else [self.bias])]
        return [t.to(dtype or t.dtype).clone().requires_grad_() for t in found]

    def logits(self, leaves: list[torch.Tensor]) -> torch.Tensor:
        return torch.nn.functional.linear(leaves[0], *leaves[1:])


def compare(
    case: Case,
    ours: Callable[[torch.Tensor, Head], torch.Tensor],
    dense: Callable[[torch.Tensor], torch.Tensor],
    tolerance: float,
) -> None:
    """Value and every gradient; gradients relative to the largest entry of their tensor."""
    leaves, reference_leaves = case.leaves(), case.leaves(torch.float64)
    loss = ours(leaves[0], Head(*leaves[1:]))
    reference = dense(case.logits(reference_leaves))
    (loss * 1.7).backward()
    (reference * 1.7).backward()
    assert abs(loss.item() - reference.item()) <= tolerance * max(abs(reference.item()), 0.1)
    for leaf, other in zip(leaves, reference_leaves, strict=True):
        assert leaf.grad is not None
        assert other.grad is not None
        scale = max(other.grad.abs().max().item() if other.grad.numel() else 0.0, 0.05)
        assert (leaf.grad.double() - other.grad).abs().le(tolerance * scale).all()


@pytest.fixture(params=[2**24, 50])
def chunk_elements(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """All tokens in one chunk, and a chunk of one or a few tokens."""
    monkeypatch.setattr(chunked, "CHUNK_ELEMENTS", request.param)
    return int(request.param)


@pytest.fixture(params=[False, True], ids=["all words", "words of K"])
def sparse(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """The student's logits of all words, and of the K alone, as with a large vocabulary."""
    if request.param:
        monkeypatch.setattr(chunked, "SPARSE_VOCABULARY", 0)
        monkeypatch.setattr(chunked, "SPARSE_RATIO", 0)
    return bool(request.param)


@pytest.mark.usefixtures("sparse")
@pytest.mark.parametrize("number", range(100))
def test_topk_kl_random_case_equals_dense_float64(number: int, chunk_elements: int) -> None:
    case = Case(number)
    teacher_head = identity_head(case.vocabulary)
    target = teacher_target(case.teacher, teacher_head, case.top_k)
    weights = sequence_weights(case.counts)
    compare(
        case,
        lambda hidden, head: topk_kl(hidden, head, target, weights, case.temperature),
        lambda logits: dense_kl(logits, case.teacher, case.lengths, case.top_k, case.temperature),
        1e-5,
    )


@pytest.mark.parametrize("number", range(0, 100, 4))
def test_topk_kl_tail_bucket_equals_dense_float64(number: int, chunk_elements: int) -> None:
    case = Case(number)
    if case.top_k >= case.vocabulary:
        case.top_k = 1
    target = teacher_target(
        case.teacher, identity_head(case.vocabulary), case.top_k, case.temperature
    )
    weights = sequence_weights(case.counts)
    compare(
        case,
        lambda hidden, head: topk_kl(hidden, head, target, weights, case.temperature),
        lambda logits: dense_kl(
            logits, case.teacher, case.lengths, case.top_k, case.temperature, tail=True
        ),
        2e-5,
    )


@pytest.mark.parametrize("number", range(0, 100, 2))
def test_cross_entropy_random_case_equals_dense_float64(number: int, chunk_elements: int) -> None:
    case = Case(number)
    if case.tokens == 0:
        return
    weights = torch.full((case.tokens,), 1 / case.tokens)
    compare(
        case,
        lambda hidden, head: cross_entropy(hidden, head, case.labels, weights),
        lambda logits: dense_cross_entropy(logits, case.labels),
        1e-5,
    )


@pytest.mark.usefixtures("sparse")
@pytest.mark.parametrize("number", range(20))
def test_losses_bfloat16_inputs_equal_dense_at_bfloat16_tolerance(number: int) -> None:
    case = Case(number, torch.bfloat16)
    case.hidden = case.hidden / 3  # logits of tens have a resolution of an eighth in bfloat16
    if case.tokens == 0:
        return
    target = teacher_target(case.teacher, identity_head(case.vocabulary), case.top_k)
    weights, even = sequence_weights(case.counts), torch.full((case.tokens,), 1 / case.tokens)
    compare(
        case,
        lambda hidden, head: topk_kl(hidden, head, target, weights, case.temperature),
        lambda logits: dense_kl(logits, case.teacher, case.lengths, case.top_k, case.temperature),
        0.05,
    )
    compare(
        case,
        lambda hidden, head: cross_entropy(hidden, head, case.labels, even),
        lambda logits: dense_cross_entropy(logits, case.labels),
        0.05,
    )


def test_topk_kl_two_tokens_by_hand() -> None:
    # K = 2 of 3; teacher renormalised (3/4, 1/4), student (1/2, 1/2):
    # 3/4 ln(3/2) + 1/4 ln(1/2) = 0.304099 - 0.173287 = 0.130812
    teacher = torch.tensor([[log(0.6), log(0.2), log(0.2) - 9]])
    student = torch.tensor([[0.0, 0.0, 7.0]])
    kl = kl_of_logits(student, teacher, [1], 2, 1.0)
    assert kl.item() == pytest.approx(0.130812, abs=1e-6)


def test_topk_kl_direction_is_teacher_first() -> None:
    # KL(teacher || student) by hand is 0.130812; the other way round it would be
    # 1/2 ln(2/3) + 1/2 ln 2 = 0.143841
    kl = kl_of_logits(torch.zeros(1, 2), torch.tensor([[log(3.0), 0.0]]), [1], 2, 1.0)
    assert kl.item() == pytest.approx(0.130812, abs=1e-6)


def test_topk_kl_tail_bucket_by_hand() -> None:
    # K = 1 of 3: teacher (1/2 | 1/2), student (1/3 | 2/3):
    # 1/2 ln(3/2) + 1/2 ln(3/4) = 0.202733 - 0.143841 = 0.058892
    head, teacher = identity_head(3), torch.tensor([[log(2.0), 0.0, 0.0]])
    target = teacher_target(teacher, head, 1, tail_temperature=1.0)
    kl = topk_kl(torch.zeros(1, 3), head, target, torch.ones(1), 1.0)
    assert kl.item() == pytest.approx(0.058892, abs=1e-6)


def test_topk_kl_sequences_weigh_the_same_whatever_their_length() -> None:
    # one token of KL 0.130812 in the first, three of KL 0 in the second: (0.130812 + 0) / 2
    teacher = torch.tensor([[log(3.0), 0.0], *[[0.0, 0.0]] * 3])
    kl = kl_of_logits(torch.zeros(4, 2), teacher, [1, 3], 2, 1.0)
    assert kl.item() == pytest.approx(0.065406, abs=1e-6)


def test_topk_kl_empty_rollout_counts_as_zero() -> None:
    # 0.130812 in the first sequence, nothing in the second: a half of it
    kl = kl_of_logits(torch.zeros(1, 2), torch.tensor([[log(3.0), 0.0]]), [1, 0], 2, 1.0)
    assert kl.item() == pytest.approx(0.065406, abs=1e-6)


def test_topk_kl_gradient_stays_inside_k() -> None:
    case = Case(3)
    case.top_k, head = 2, identity_head(case.vocabulary)
    student = torch.randn(case.tokens, case.vocabulary, generator=case.generator)
    student.requires_grad_()
    target = teacher_target(case.teacher, head, 2)
    topk_kl(student, head, target, sequence_weights(case.counts), 1.5).backward()
    inside = torch.zeros_like(student, dtype=torch.bool).scatter(-1, target.ids_NK, True)
    assert student.grad is not None
    assert (student.grad[~inside] == 0).all()
    assert (student.grad[inside] != 0).any()


@pytest.mark.parametrize("tail", [False, True])
def test_topk_kl_identical_teacher_and_student_zero(tail: bool) -> None:
    case = Case(5)
    head, weights = Head(case.weight, case.bias), sequence_weights(case.counts)
    target = teacher_target(case.hidden, head, 4, 1.5 if tail else None)
    kl = topk_kl(case.hidden, head, target, weights, 1.5)
    assert kl.item() == pytest.approx(0, abs=1e-6)


def test_topk_kl_constant_added_to_logits_changes_nothing() -> None:
    case = Case(7)
    student = torch.randn(case.tokens, case.vocabulary, generator=case.generator)
    plain = kl_of_logits(student, case.teacher, case.lengths, 4, 1.5)
    shifted = kl_of_logits(student + 3, case.teacher - 5, case.lengths, 4, 1.5)
    assert shifted.item() == pytest.approx(plain.item(), rel=1e-4)


@pytest.mark.parametrize("number", [11, 12, 13])
def test_losses_split_into_parts_add_up_to_the_whole(number: int) -> None:
    """Parts of a batch with the whole batch's normalisers: same loss, same gradient."""
    case = Case(number)
    head = identity_head(case.vocabulary)
    target = teacher_target(case.teacher, head, case.top_k)

    def loss(hidden: torch.Tensor, rows: slice, tokens: slice) -> torch.Tensor:
        weights = sequence_weights(case.counts[rows], len(case.lengths))
        even = torch.full((len(case.labels[tokens]),), 1 / case.tokens)
        part = TeacherTarget(target.ids_NK[tokens], target.logits_NK[tokens], target.mass_N[tokens])
        own = Head(case.weight, case.bias)
        return topk_kl(hidden[tokens], own, part, weights, 1.5) + cross_entropy(
            hidden[tokens], own, case.labels[tokens], even
        )

    whole, split = (case.hidden.clone().requires_grad_() for _ in range(2))
    at = sum(case.lengths[:2])
    one = loss(whole, slice(None), slice(None))
    two = loss(split, slice(0, 2), slice(0, at)) + loss(split, slice(2, None), slice(at, None))
    one.backward()
    two.backward()
    assert two.item() == pytest.approx(one.item(), rel=1e-5)
    torch.testing.assert_close(split.grad, whole.grad, rtol=1e-5, atol=1e-7)


def test_chunks_hold_no_more_logits_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "CHUNK_ELEMENTS", 40)
    held = []
    plain = Head.logits

    def watched(self: Head, hidden: torch.Tensor) -> torch.Tensor:
        held.append(len(hidden) * len(self.weight_VD))
        return plain(self, hidden)

    monkeypatch.setattr(Head, "logits", watched)
    head = Head(torch.randn(V, D))
    hidden = torch.randn(9, D, requires_grad=True)
    target = teacher_target(hidden.detach(), head, 4)
    topk_kl(hidden, head, target, torch.ones(9), 1.0).backward()
    cross_entropy(hidden, head, torch.zeros(9, dtype=torch.long), torch.ones(9)).backward()
    assert max(held) <= 40
    assert sum(held) == 4 * 9 * V  # teacher, KL forward, cross-entropy forward and backward


def test_topk_kl_large_vocabulary_computes_no_logits_of_the_student_outside_k(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head = Head(torch.randn(2**15, D), torch.randn(2**15))
    target = teacher_target(torch.randn(9, D), head, 16)
    hidden = torch.randn(9, D, requires_grad=True)
    dense = head.logits(hidden).gather(-1, target.ids_NK)
    monkeypatch.setattr(Head, "logits", None)
    torch.testing.assert_close(head.columns(hidden.detach(), target.ids_NK), dense)
    topk_kl(hidden, head, target, torch.ones(9), 1.0).backward()
    assert hidden.grad is not None


def test_sequence_weights_by_hand() -> None:
    weights = sequence_weights(torch.tensor([2, 1]))
    assert weights.tolist() == pytest.approx([0.25, 0.25, 0.5])


def test_mass_and_entropy_uniform_distribution_by_hand() -> None:
    mass, entropy = mass_and_entropy(torch.zeros(2, 4), identity_head(4), torch.tensor([[0], [3]]))
    assert mass.tolist() == pytest.approx([0.25, 0.25])
    assert entropy.tolist() == pytest.approx([log(4), log(4)])


def test_teacher_target_ids_and_mass_by_hand() -> None:
    logits = torch.tensor([[log(6.0), log(3.0), 0.0]])
    target = teacher_target(logits, identity_head(3), 2)
    assert target.ids_NK.tolist() == [[0, 1]]
    assert target.mass_N.item() == pytest.approx(0.9)
