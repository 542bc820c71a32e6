"""The two losses as functions of hidden states and the output matrix, a chunk of tokens at a time.

A dense loss holds [N, V] logits, their float32 copy, a softmax and its gradient; at V = 128,256
that is what fills a GPU. Here logits exist for one chunk of tokens only, forward and backward.
The top-K KL needs no normaliser over V: its gradient is zero outside K, so K numbers a token are
all that is kept between the passes. Cross-entropy, and the KL with a tail bucket, keep the
normaliser of each token and compute the chunk's logits again in the backward pass.

Dimensions: N scored tokens of all rows, C tokens of one chunk, D hidden, V vocabulary, K the
teacher's most probable tokens. Logits are computed in the inputs' type and then taken to float32
(float64 stays). Every function returns sum_n weights_n * loss_n as a scalar.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

CHUNK_ELEMENTS = 2**24
SMALLEST_LOG = -1e4


@dataclass(frozen=True, slots=True)
class Head:
    """An output layer: logits = hidden @ weight.T + bias."""

    weight_VD: torch.Tensor
    bias_V: torch.Tensor | None = None

    def logits(self, hidden_CD: torch.Tensor) -> torch.Tensor:
        """[C, V] in float32, or in float64 where the inputs are."""
        return widened(torch.nn.functional.linear(hidden_CD, self.weight_VD, self.bias_V))

    def chunks(self, tokens: int) -> Iterator[slice]:
        """Slices of the tokens, each small enough for its logits to be held."""
        size = max(1, CHUNK_ELEMENTS // self.weight_VD.shape[0])
        return (slice(start, start + size) for start in range(0, tokens, size))


def widened(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def log_rest(logits_CV: torch.Tensor, ids_CK: torch.Tensor) -> torch.Tensor:
    """[C] logsumexp of the logits outside the tokens `ids`; `SMALLEST_LOG` where all are in."""
    rest_C = logits_CV.scatter(-1, ids_CK, -torch.inf).logsumexp(-1)
    return rest_C.clamp_min(SMALLEST_LOG)


class LinearCrossEntropy(torch.autograd.Function):
    """sum_n weights_n * (-log softmax(hidden_n @ W.T + b)[labels_n])."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        labels_N: torch.Tensor,
        weights_N: torch.Tensor,
    ) -> torch.Tensor:
        head = Head(weight_VD, bias_V)
        total = widened(hidden_ND.new_zeros(()))
        normalisers = []
        for chunk in head.chunks(len(hidden_ND)):
            logits_CV = head.logits(hidden_ND[chunk])
            normalisers.append(logits_CV.logsumexp(-1))
            picked_C = logits_CV.gather(-1, labels_N[chunk, None]).squeeze(-1)
            total = total + (weights_N[chunk] * (normalisers[-1] - picked_C)).sum()
        normaliser_N = torch.cat(normalisers) if normalisers else total.new_zeros(0)
        ctx.save_for_backward(hidden_ND, weight_VD, bias_V, labels_N, weights_N, normaliser_N)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden_ND, weight_VD, bias_V, labels_N, weights_N, normaliser_N = ctx.saved_tensors
        head = Head(weight_VD, bias_V)
        sums = GradientSums(ctx, hidden_ND, head)
        for chunk in head.chunks(len(hidden_ND)):
            grad_CV = (head.logits(hidden_ND[chunk]) - normaliser_N[chunk, None]).exp_()
            labels_C1 = labels_N[chunk, None]
            grad_CV.scatter_add_(-1, labels_C1, -torch.ones_like(labels_C1, dtype=grad_CV.dtype))
            sums.add(chunk, grad_CV.mul_((weights_N[chunk] * grads[0])[:, None]))
        return (*sums.results(), None, None)


class LinearTopKKL(torch.autograd.Function):
    """sum_n weights_n * T^2 * KL(q_n || p_n), both softmaxes over the teacher's K logits / T."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        ids_NK: torch.Tensor,
        teacher_NK: torch.Tensor,
        weights_N: torch.Tensor,
        temperature: float,
    ) -> torch.Tensor:
        head = Head(weight_VD, bias_V)
        total = widened(hidden_ND.new_zeros(()))
        grad_NK = teacher_NK.new_empty(teacher_NK.shape, dtype=total.dtype)
        for chunk in head.chunks(len(hidden_ND)):
            student_CK = head.logits(hidden_ND[chunk]).gather(-1, ids_NK[chunk]) / temperature
            log_p_CK = student_CK.log_softmax(-1)
            log_q_CK = (widened(teacher_NK[chunk]) / temperature).log_softmax(-1)
            q_CK = log_q_CK.exp()
            kl_C = (q_CK * (log_q_CK - log_p_CK)).sum(-1)
            total = total + temperature**2 * (weights_N[chunk] * kl_C).sum()
            # d/ds of T^2 KL(q || softmax(s / T)) is T (p - q).
            grad_NK[chunk] = (log_p_CK.exp() - q_CK) * (temperature * weights_N[chunk])[:, None]
        ctx.save_for_backward(hidden_ND, weight_VD, bias_V, ids_NK, grad_NK)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden_ND, weight_VD, bias_V, ids_NK, grad_NK = ctx.saved_tensors
        head = Head(weight_VD, bias_V)
        sums = GradientSums(ctx, hidden_ND, head)
        for chunk in head.chunks(len(hidden_ND)):
            grad_CK = grad_NK[chunk] * grads[0]
            grad_CV = grad_CK.new_zeros(len(grad_CK), len(weight_VD))
            sums.add(chunk, grad_CV.scatter_(-1, ids_NK[chunk], grad_CK))
        return (*sums.results(), None, None, None, None)


class LinearTailKL(torch.autograd.Function):
    """The KL over K tokens and one bucket for all others, neither side renormalised.

    `teacher_rest_N` is `log_rest` of the teacher's logits / T.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        ids_NK: torch.Tensor,
        teacher_NK: torch.Tensor,
        teacher_rest_N: torch.Tensor,
        weights_N: torch.Tensor,
        temperature: float,
    ) -> torch.Tensor:
        head = Head(weight_VD, bias_V)
        total = widened(hidden_ND.new_zeros(()))
        scaled_NK = widened(teacher_NK) / temperature
        norm_N1 = torch.logaddexp(scaled_NK.logsumexp(-1), teacher_rest_N)[:, None]
        log_q_NK, log_tail_q_N = scaled_NK - norm_N1, teacher_rest_N - norm_N1[:, 0]
        q_NK, tail_q_N = log_q_NK.exp(), log_tail_q_N.exp()
        normalisers, ratios = [], []
        for chunk in head.chunks(len(hidden_ND)):
            logits_CV = head.logits(hidden_ND[chunk]) / temperature
            normalisers.append(logits_CV.logsumexp(-1))
            log_p_CK = logits_CV.gather(-1, ids_NK[chunk]) - normalisers[-1][:, None]
            log_tail_p_C = log_rest(logits_CV, ids_NK[chunk]) - normalisers[-1]
            log_ratio_C = log_tail_q_N[chunk] - log_tail_p_C
            ratios.append(log_ratio_C.exp())
            kept_C = (q_NK[chunk] * (log_q_NK[chunk] - log_p_CK)).sum(-1)
            tail_C = tail_q_N[chunk] * log_ratio_C
            total = total + temperature**2 * (weights_N[chunk] * (kept_C + tail_C)).sum()
        empty = total.new_zeros(0)
        normaliser_N = torch.cat(normalisers) if normalisers else empty
        ratio_N = torch.cat(ratios) if ratios else empty
        saved = (hidden_ND, weight_VD, bias_V, ids_NK, q_NK, normaliser_N, ratio_N, weights_N)
        ctx.save_for_backward(*saved)
        ctx.temperature = temperature
        return total

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden_ND, weight_VD, bias_V, ids_NK, q_NK, norm_N, ratio_N, weights_N = ctx.saved_tensors
        head = Head(weight_VD, bias_V)
        sums = GradientSums(ctx, hidden_ND, head)
        for chunk in head.chunks(len(hidden_ND)):
            logits_CV = head.logits(hidden_ND[chunk]) / ctx.temperature
            p_CV = (logits_CV - norm_N[chunk, None]).exp_()
            # d/dz: p - q inside K, p (1 - tail_q / tail_p) outside, where z = logits / T.
            inside_CK = p_CV.gather(-1, ids_NK[chunk]) - q_NK[chunk]
            grad_CV = p_CV.mul_((1 - ratio_N[chunk])[:, None]).scatter_(
                -1, ids_NK[chunk], inside_CK
            )
            scale_C = ctx.temperature * weights_N[chunk] * grads[0]
            sums.add(chunk, grad_CV.mul_(scale_C[:, None]))
        return (*sums.results(), None, None, None, None, None)


class GradientSums:
    """Gradients of the hidden states, the output matrix and its bias, added up over chunks."""

    def __init__(self, ctx: Any, hidden_ND: torch.Tensor, head: Head) -> None:
        wanted = ctx.needs_input_grad
        self._hidden_ND, self._head = hidden_ND, head
        self._grad_ND = torch.empty_like(hidden_ND) if wanted[0] else None
        # Summed over chunks in float32: bfloat16 would lose the small ones.
        self._grad_VD = torch.zeros_like(widened(head.weight_VD)) if wanted[1] else None
        with_bias = head.bias_V is not None and wanted[2]
        self._grad_V = torch.zeros_like(widened(head.weight_VD[:, 0])) if with_bias else None

    def add(self, chunk: slice, grad_CV: torch.Tensor) -> None:
        """Take in the gradient of one chunk's logits."""
        narrow_CV = grad_CV.to(self._hidden_ND.dtype)
        if self._grad_ND is not None:
            self._grad_ND[chunk] = narrow_CV @ self._head.weight_VD
        if self._grad_VD is not None and self._grad_VD.dtype == narrow_CV.dtype:
            self._grad_VD.addmm_(narrow_CV.T, self._hidden_ND[chunk])
        elif self._grad_VD is not None:
            self._grad_VD += narrow_CV.T @ self._hidden_ND[chunk]
        if self._grad_V is not None:
            self._grad_V += grad_CV.sum(0)

    def results(self) -> tuple[torch.Tensor | None, ...]:
        weight_dtype = self._head.weight_VD.dtype
        return (
            self._grad_ND,
            None if self._grad_VD is None else self._grad_VD.to(weight_dtype),
            None if self._grad_V is None else self._grad_V.to(weight_dtype),
        )
