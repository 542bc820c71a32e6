"""The two losses of RAFT, as functions of hidden states and the output layer.

Conventions. KL is KL(teacher || student), the teacher first. Dimensions: B sequences, T tokens of a
sequence, N all scored tokens of B sequences one after another (no padding), D hidden, V vocabulary,
K the teacher's most probable tokens. Reduction of the KL: mean over the tokens of a sequence, then
over the sequences, where a sequence without tokens counts as 0; of the cross-entropy: mean over
all tokens. Both are weighted sums, so that parts of a batch add up to the whole.

After renormalising on K tokens (eq. 9) both distributions are softmaxes over K logits: top-K does
not depend on the temperature, and the normaliser over V cancels. So neither side needs it, and
`chunked` never holds logits of more than a chunk of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from raft_core.distill.loss.chunked import (
    Head,
    LinearCrossEntropy,
    LinearTailKL,
    LinearTopKKL,
    log_rest,
)


@dataclass(frozen=True, slots=True)
class TeacherTarget:
    """Top K of the teacher at each scored token: ids and logits.

    `mass_N` is the probability inside K at T=1; `rest_N`, which only a tail bucket needs, is
    logsumexp of the logits / T outside K.
    """

    ids_NK: torch.Tensor
    logits_NK: torch.Tensor
    mass_N: torch.Tensor
    rest_N: torch.Tensor | None = None


def output_head(layer: Any, hidden: torch.Tensor) -> Head:
    """Return a model's output layer in the type that the computation runs in.

    Under autocast that is its type, else the hidden states'.
    """
    device = hidden.device.type
    autocast = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if autocast else hidden.dtype
    bias = getattr(layer, "bias", None)
    return Head(layer.weight.to(dtype), None if bias is None else bias.to(dtype))


@torch.no_grad()
def teacher_target(
    hidden_ND: torch.Tensor, head: Head, top_k: int, tail_temperature: float | None = None
) -> TeacherTarget:
    """Return the K most probable tokens under the teacher (eq. 9); K is at most the vocabulary.

    A `tail_temperature` asks for what a tail bucket needs.
    """
    hidden_ND, count = hidden_ND.to(head.weight_VD.dtype), min(top_k, len(head.weight_VD))
    ids, logits, mass, rest = [], [], [], []
    for chunk in head.chunks(len(hidden_ND)):
        logits_CV = head.logits(hidden_ND[chunk])
        top = logits_CV.topk(count, dim=-1, sorted=False)
        ids.append(top.indices)
        logits.append(top.values)
        mass.append((top.values.logsumexp(-1) - logits_CV.logsumexp(-1)).exp())
        if tail_temperature is not None:
            rest.append(log_rest(logits_CV / tail_temperature, top.indices))
    if not ids:
        empty_NK = hidden_ND.new_zeros(0, count)
        nothing_N = empty_NK[:, 0]
        return TeacherTarget(empty_NK.long(), empty_NK, nothing_N, nothing_N)
    rest_N = torch.cat(rest) if rest else None
    return TeacherTarget(torch.cat(ids), torch.cat(logits), torch.cat(mass), rest_N)


def topk_kl(
    hidden_ND: torch.Tensor,
    head: Head,
    target: TeacherTarget,
    weights_N: torch.Tensor,
    temperature: float,
) -> torch.Tensor:
    """Return L_KL (eqs. 8-10): sum_n weights_n * T^2 * KL(q_n || p_n), both renormalised on K.

    With `sequence_weights` the sum is the paper's mean. A target with `rest_N` is no part of the
    paper: neither side is renormalised then, and all tokens outside K are one more outcome.
    """
    hidden_ND = hidden_ND.to(head.weight_VD.dtype)
    own = (hidden_ND, head.weight_VD, head.bias_V, target.ids_NK, target.logits_NK)
    if target.rest_N is not None:
        loss: torch.Tensor = LinearTailKL.apply(*own, target.rest_N, weights_N, temperature)
    else:
        loss = LinearTopKKL.apply(*own, weights_N, temperature)
    return loss


def cross_entropy(
    hidden_ND: torch.Tensor, head: Head, labels_N: torch.Tensor, weights_N: torch.Tensor
) -> torch.Tensor:
    """Return L_SFT: sum_n weights_n * cross-entropy of labels_n."""
    hidden_ND = hidden_ND.to(head.weight_VD.dtype)
    loss: torch.Tensor = LinearCrossEntropy.apply(
        hidden_ND, head.weight_VD, head.bias_V, labels_N, weights_N
    )
    return loss


def sequence_weights(counts_B: torch.Tensor, sequences: float | None = None) -> torch.Tensor:
    """Return weights [N] of the tokens of B sequences: 1 / (sequences * tokens of its sequence).

    `sequences` is B by default; a part of a batch takes the number of the whole.
    """
    weights_B = 1 / (counts_B.clamp_min(1).float() * (sequences or len(counts_B)))
    return weights_B.repeat_interleave(counts_B)


@torch.no_grad()
def mass_and_entropy(
    hidden_ND: torch.Tensor, head: Head, ids_NK: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return per token [N] the probability at T=1 of the tokens `ids`, and the entropy in nats."""
    hidden_ND = hidden_ND.to(head.weight_VD.dtype)
    mass_N, entropy_N = (hidden_ND.new_zeros(len(hidden_ND), dtype=torch.float32) for _ in range(2))
    for chunk in head.chunks(len(hidden_ND)):
        log_p_CV = head.logits(hidden_ND[chunk]).log_softmax(-1)
        mass_N[chunk] = log_p_CV.gather(-1, ids_NK[chunk]).exp().sum(-1).float()
        entropy_N[chunk] = -(log_p_CV.exp() * log_p_CV).sum(-1).float()
    return mass_N, entropy_N
