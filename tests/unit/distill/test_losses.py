"""The losses against arithmetic by hand and against a dense float64 reference."""

from __future__ import annotations

from math import log

import pytest
import torch

from raft_core.distill.losses import (
    entropy,
    mass_on,
    mean_over_sequences,
    sft_cross_entropy,
    teacher_target,
    topk_kl,
)

B, T, V = 3, 5, 17


def dense_kl(
    student_BTV: torch.Tensor,
    teacher_BTV: torch.Tensor,
    mask_BT: torch.Tensor,
    top_k: int,
    temperature: float,
) -> torch.Tensor:
    """Eqs. 8-10 as they are written: full softmax, restriction, renormalisation, in loops."""
    q_BTV = (teacher_BTV.double() / temperature).softmax(-1)
    p_BTV = (student_BTV.double() / temperature).softmax(-1)
    sequences = []
    for b in range(mask_BT.shape[0]):
        tokens = []
        for t in range(mask_BT.shape[1]):
            if mask_BT[b, t]:
                kept = q_BTV[b, t].argsort(descending=True)[:top_k]
                q = q_BTV[b, t, kept] / q_BTV[b, t, kept].sum()
                p = p_BTV[b, t, kept] / p_BTV[b, t, kept].sum()
                tokens.append((q * (q / p).log()).sum())
        if tokens:
            sequences.append(torch.stack(tokens).mean())
    return temperature**2 * torch.stack(sequences).mean()


@pytest.fixture
def logits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(5)
    student = torch.randn(B, T, V, generator=rng, dtype=torch.float64)
    teacher = 2 * torch.randn(B, T, V, generator=rng, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])
    return student, teacher, mask


def test_topk_kl_two_tokens_by_hand() -> None:
    # K = 2 of 3; teacher renormalised (3/4, 1/4), student (1/2, 1/2):
    # 3/4 ln(3/2) + 1/4 ln(1/2) = 0.304099 - 0.173287 = 0.130812
    teacher = torch.tensor([[[log(0.6), log(0.2), log(0.2) - 9]]])
    student = torch.tensor([[[0.0, 0.0, 7.0]]])
    kl = topk_kl(student, teacher_target(teacher, 2), torch.ones(1, 1), 1.0)
    assert kl.item() == pytest.approx(0.130812, abs=1e-6)


def test_topk_kl_direction_is_teacher_first() -> None:
    # KL(teacher || student) by hand is 0.130812; the other way round it would be
    # 1/2 ln(2/3) + 1/2 ln 2 = 0.143841
    teacher = torch.tensor([[[log(3.0), 0.0]]])
    student = torch.zeros(1, 1, 2)
    kl = topk_kl(student, teacher_target(teacher, 2), torch.ones(1, 1), 1.0)
    assert kl.item() == pytest.approx(0.130812, abs=1e-6)


def test_topk_kl_sequences_weigh_the_same_whatever_their_length() -> None:
    # one token of KL 0.130812 in the first, three of KL 0 in the second: (0.130812 + 0) / 2
    teacher = torch.tensor([[[log(3.0), 0.0]] * 3, [[0.0, 0.0]] * 3])
    mask = torch.tensor([[1, 0, 0], [1, 1, 1]])
    kl = topk_kl(torch.zeros(2, 3, 2), teacher_target(teacher, 2), mask, 1.0)
    assert kl.item() == pytest.approx(0.065406, abs=1e-6)


@pytest.mark.parametrize("top_k", [1, 4, V, 10 * V])
@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.5])
def test_topk_kl_equals_dense_reference_forward_and_backward(
    logits: tuple[torch.Tensor, torch.Tensor, torch.Tensor], top_k: int, temperature: float
) -> None:
    student, teacher, mask = logits
    ours, dense = (student.clone().requires_grad_() for _ in range(2))
    loss = topk_kl(ours, teacher_target(teacher, top_k), mask, temperature)
    reference = dense_kl(dense, teacher, mask, top_k, temperature)
    loss.backward()
    reference.backward()
    torch.testing.assert_close(loss.double(), reference, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.grad, dense.grad, rtol=1e-4, atol=1e-6)


def test_topk_kl_gradient_stays_inside_k(
    logits: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    student, teacher, mask = logits
    student.requires_grad_()
    target = teacher_target(teacher, 4)
    topk_kl(student, target, mask, 1.5).backward()
    inside = torch.zeros(B, T, V, dtype=torch.bool).scatter(-1, target.ids_BTK, True)
    inside &= mask[..., None].bool()
    assert student.grad is not None
    assert (student.grad[~inside] == 0).all()
    assert (student.grad[inside] != 0).any()


def test_topk_kl_equal_logits_zero(
    logits: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    _, teacher, mask = logits
    assert topk_kl(teacher, teacher_target(teacher, 4), mask, 1.5).item() == pytest.approx(0)


def test_topk_kl_constant_added_to_logits_changes_nothing(
    logits: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    student, teacher, mask = logits
    before = topk_kl(student, teacher_target(teacher, 4), mask, 1.5)
    after = topk_kl(student + 3, teacher_target(teacher - 5, 4), mask, 1.5)
    torch.testing.assert_close(before, after)


def test_topk_kl_empty_mask_zero(logits: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    student, teacher, mask = logits
    assert topk_kl(student, teacher_target(teacher, 4), mask * 0, 1.5).item() == 0


def test_teacher_target_ids_do_not_depend_on_temperature_and_mass_is_at_one() -> None:
    # probabilities 1/2, 1/4, 1/4: the first two hold 3/4
    teacher = torch.tensor([[[log(2.0), 0.0, -1e-6]]])
    target = teacher_target(teacher, 2)
    assert target.ids_BTK.tolist() == [[[0, 1]]]
    assert target.mass_BT.item() == pytest.approx(0.75, abs=1e-5)


def test_mass_on_counts_the_students_own_probability() -> None:
    student = torch.tensor([[[log(8.0), log(1.0), log(1.0)]]])
    assert mass_on(student, torch.tensor([[[1, 2]]])).item() == pytest.approx(0.2)


def test_entropy_uniform_is_log_v() -> None:
    assert entropy(torch.zeros(1, 1, 8)).item() == pytest.approx(log(8))


def test_sft_cross_entropy_by_hand() -> None:
    # -ln(3/4) and -ln(1/4) under the mask, the third token is not: mean 0.836988
    logits = torch.tensor([[[log(3.0), 0.0]] * 3])
    labels, mask = torch.tensor([[0, 1, 1]]), torch.tensor([[1.0, 1.0, 0.0]])
    assert sft_cross_entropy(logits, labels, mask).item() == pytest.approx(0.836988, abs=1e-6)


def test_mean_over_sequences_leaves_empty_ones_out() -> None:
    values = torch.tensor([[1.0, 3.0], [9.0, 9.0]])
    mask = torch.tensor([[1, 1], [0, 0]])
    assert mean_over_sequences(values, mask).item() == 2.0
