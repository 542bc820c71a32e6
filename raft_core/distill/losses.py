"""The two losses of RAFT as plain functions of logits.

Conventions. KL is KL(teacher || student), the teacher first. Dimensions: B sequences, T tokens,
V vocabulary, K the teacher's most probable tokens. Reduction: mean over the tokens of a sequence,
then over the sequences that have any token. Logits are computed with in float32.

After renormalising on K tokens (eq. 9) both distributions are softmaxes over K logits: top-K does
not depend on the temperature, and the normaliser over V cancels. So neither side needs it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True, slots=True)
class TeacherTarget:
    """What the student sees of the teacher: K ids and K logits a token, and their mass."""

    ids_BTK: torch.Tensor
    logits_BTK: torch.Tensor
    mass_BT: torch.Tensor


def teacher_target(logits_BTV: torch.Tensor, top_k: int) -> TeacherTarget:
    """The K most probable tokens under the teacher (eq. 9), and the probability they hold at T=1.

    `top_k` beyond the vocabulary means all of it.
    """
    logits_BTV = logits_BTV.float()
    top = logits_BTV.topk(min(top_k, logits_BTV.shape[-1]), dim=-1)
    mass_BT = (top.values.logsumexp(-1) - logits_BTV.logsumexp(-1)).exp()
    return TeacherTarget(top.indices, top.values, mass_BT)


def topk_kl(
    student_logits_BTV: torch.Tensor,
    target: TeacherTarget,
    mask_BT: torch.Tensor,
    temperature: float,
) -> torch.Tensor:
    """L_KL (eqs. 8-10): T^2 * mean_i 1/L_i sum_t KL(q_t || p_t), both renormalised on K.

    Returns a scalar; 0 where the mask is empty.
    """
    student_BTK = student_logits_BTV.gather(-1, target.ids_BTK).float()
    log_q_BTK = F.log_softmax(target.logits_BTK.float() / temperature, dim=-1)
    log_p_BTK = F.log_softmax(student_BTK / temperature, dim=-1)
    kl_BT = (log_q_BTK.exp() * (log_q_BTK - log_p_BTK)).sum(-1)
    return temperature**2 * mean_over_sequences(kl_BT, mask_BT)


def sft_cross_entropy(
    logits_BTV: torch.Tensor, labels_BT: torch.Tensor, mask_BT: torch.Tensor
) -> torch.Tensor:
    """L_SFT: cross-entropy of the labels, mean over all tokens under the mask. A scalar."""
    loss_BT = F.cross_entropy(
        logits_BTV.float().flatten(0, 1), labels_BT.flatten(), reduction="none"
    ).view_as(mask_BT)
    return (loss_BT * mask_BT).sum() / mask_BT.sum().clamp_min(1)


def mean_over_sequences(values_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Mean over the tokens of each sequence, then over the sequences with any token."""
    lengths_B = mask_BT.sum(-1)
    means_B = (values_BT * mask_BT).sum(-1) / lengths_B.clamp_min(1)
    return means_B.sum() / (lengths_B > 0).sum().clamp_min(1)


@torch.no_grad()
def mass_on(logits_BTV: torch.Tensor, ids_BTK: torch.Tensor) -> torch.Tensor:
    """[B, T] probability at T=1 that `logits` give to the tokens `ids`."""
    logits_BTV = logits_BTV.float()
    return (logits_BTV.gather(-1, ids_BTK).logsumexp(-1) - logits_BTV.logsumexp(-1)).exp()


@torch.no_grad()
def entropy(logits_BTV: torch.Tensor) -> torch.Tensor:
    """[B, T] entropy in nats at T=1."""
    log_p_BTV = F.log_softmax(logits_BTV.float(), dim=-1)
    return -(log_p_BTV.exp() * log_p_BTV).sum(-1)
