"""Compute the two losses from hidden states and the output matrix, a chunk of tokens at a time.

A dense loss holds [N, V] logits, their float32 copy, a softmax and its gradient; at V = 128,256
that is what fills a GPU. Here no pass holds more than a part of them:

- The forward pass holds logits of one chunk of tokens, over the whole vocabulary: a softmax needs
  all words of a token.
- The backward pass holds gradients of one block of the vocabulary, over all tokens: each block's
  rows of the output matrix's gradient are then one product over N, written once. Chunks of tokens
  would each add to the whole matrix, and need a second one to sum into.

Between the passes only what the gradient needs is kept. The top-K KL needs no normaliser over V:
its gradient is zero outside K, so K numbers a token suffice; where K is few of very many words,
only their logits are computed. Cross-entropy, and the KL with a tail bucket, keep the normaliser of
each token and compute a block's logits again in the backward pass.

Dimensions: N scored tokens of all rows, C tokens of one chunk, D hidden, V vocabulary, W words of
one block of it, K the teacher's most probable tokens. Logits are computed in the inputs' type and
then taken to float32 (float64 stays). Every function returns sum_n weights_n * loss_n as a scalar.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

CHUNK_ELEMENTS = 2**24
# On an H100 a KL with its gradients took 1.54 times as long with 2**24 and 0.9 times with 2**28,
# which holds 2.8 GiB instead of 1.3.
CUDA_CHUNK_ELEMENTS = 2**26
# On a CPU, reading K rows of the matrix per token beats a product over all V from V = 64 K upwards;
# small vocabularies are fast either way. CUDA has no such gradient in bfloat16.
SPARSE_RATIO, SPARSE_VOCABULARY = 64, 2**15
SMALLEST_LOG = -1e4


@dataclass(frozen=True, slots=True)
class Head:
    """An output layer: logits = hidden @ weight.T + bias."""

    weight_VD: torch.Tensor
    bias_V: torch.Tensor | None = None

    def logits(self, hidden_CD: torch.Tensor) -> torch.Tensor:
        """Return logits [C, V] in float32, or in float64 where the inputs are."""
        return widened(torch.nn.functional.linear(hidden_CD, self.weight_VD, self.bias_V))

    def sparse(self, top_k: int) -> bool:
        """Return whether the logits of K words cost less by themselves than with all others'."""
        vocabulary = len(self.weight_VD)
        large = vocabulary >= max(SPARSE_VOCABULARY, SPARSE_RATIO * top_k)
        return large and self.weight_VD.device.type == "cpu"

    def columns(self, hidden_ND: torch.Tensor, ids_NK: torch.Tensor) -> torch.Tensor:
        """Return the logits [N, K] of `ids` alone, in float32, or float64 where the inputs are."""
        # W[ids] would be a copy of N * K rows. Instead: the gradient of sum_k w_k W[ids_k] by w,
        # taken along the hidden states, is the same product, and its kernel reads W in place.
        with torch.enable_grad():
            ones_NK = self.weight_VD.new_ones(ids_NK.shape, requires_grad=True)
            summed_ND = weighted_rows(self.weight_VD.detach(), ids_NK, ones_NK)
            (logits_NK,) = torch.autograd.grad(summed_ND, ones_NK, hidden_ND)
        return widened(logits_NK if self.bias_V is None else logits_NK + self.bias_V[ids_NK])

    @property
    def _elements(self) -> int:
        on_gpu = self.weight_VD.device.type == "cuda"
        return CUDA_CHUNK_ELEMENTS if on_gpu else CHUNK_ELEMENTS

    def chunks(self, tokens: int) -> Iterator[slice]:
        """Return slices of the tokens, each small enough for its logits to be held."""
        size = max(1, self._elements // len(self.weight_VD))
        return (slice(start, start + size) for start in range(0, tokens, size))

    def blocks(self, tokens: int) -> Iterator[slice]:
        """Return slices of the vocabulary, each small enough to hold all tokens' logits in it."""
        vocabulary, size = len(self.weight_VD), max(1, self._elements // max(1, tokens))
        return (slice(start, min(start + size, vocabulary)) for start in range(0, vocabulary, size))

    def block(self, words: slice) -> Head:
        """Return the output layer of a part of the vocabulary."""
        bias_V = None if self.bias_V is None else self.bias_V[words]
        return Head(self.weight_VD[words], bias_V)


def widened(tensor: torch.Tensor) -> torch.Tensor:
    """Cast a tensor to float32; float64 stays."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def weighted_rows(
    weight_VD: torch.Tensor, ids_NK: torch.Tensor, factors_NK: torch.Tensor
) -> torch.Tensor:
    """Return [N, D] sum_k factors_k * weight[ids_k], without a copy of the rows."""
    return torch.nn.functional.embedding_bag(
        ids_NK, weight_VD, per_sample_weights=factors_NK, mode="sum"
    )


def log_rest(logits_CV: torch.Tensor, ids_CK: torch.Tensor) -> torch.Tensor:
    """Return [C] logsumexp of the logits outside the tokens `ids`; `SMALLEST_LOG` for none."""
    rest_C = logits_CV.scatter(-1, ids_CK, -torch.inf).logsumexp(-1)
    return rest_C.clamp_min(SMALLEST_LOG)


class LinearCrossEntropy(torch.autograd.Function):
    """Cross-entropy: sum_n weights_n * (-log softmax(hidden_n @ W.T + b)[labels_n])."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        labels_N: torch.Tensor,
        weights_N: torch.Tensor,
    ) -> torch.Tensor:
        """Return the weighted sum; keep each token's normaliser."""
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
        """Compute the gradients, softmax minus one-hot, with each block's logits computed again."""
        hidden_ND, weight_VD, bias_V, labels_N, weights_N, normaliser_N = ctx.saved_tensors
        head = Head(weight_VD, bias_V)
        gradients = Gradients(ctx, hidden_ND, head)
        scale_N1 = (weights_N * grads[0])[:, None]
        for words in head.blocks(len(hidden_ND)):
            # d/dz of -log softmax(z)[label] is softmax(z) - onehot(label).
            grad_NW = (head.block(words).logits(hidden_ND) - normaliser_N[:, None]).exp_()
            add_at(grad_NW, labels_N[:, None], torch.full_like(scale_N1, -1), words)
            gradients.add(words, grad_NW.mul_(scale_N1))
        return (*gradients.results(), None, None)


class LinearTopKKL(torch.autograd.Function):
    """Top-K KL: sum_n weights_n * T^2 * KL(q_n || p_n), softmaxes over K logits / T."""

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
        """Return the weighted sum; keep the gradient of the K logits, which is known by then."""
        head = Head(weight_VD, bias_V)
        total = widened(hidden_ND.new_zeros(()))
        grad_NK = teacher_NK.new_empty(teacher_NK.shape, dtype=total.dtype)
        sparse = head.sparse(ids_NK.shape[-1])
        for chunk in head.chunks(len(hidden_ND)):
            if sparse:
                student_CK = head.columns(hidden_ND[chunk], ids_NK[chunk]) / temperature
            else:
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
        """Scatter the kept gradient of the K logits into each block of the vocabulary."""
        hidden_ND, weight_VD, bias_V, ids_NK, grad_NK = ctx.saved_tensors
        head = Head(weight_VD, bias_V)
        scaled_NK, gradients = grad_NK * grads[0], Gradients(ctx, hidden_ND, head)
        if head.sparse(ids_NK.shape[-1]):
            gradients.add_rows(ids_NK, scaled_NK)
        for words in head.blocks(len(hidden_ND)) if gradients.open else ():
            grad_NW = scaled_NK.new_zeros(len(hidden_ND), words.stop - words.start)
            add_at(grad_NW, ids_NK, scaled_NK, words)
            gradients.add(words, grad_NW)
        return (*gradients.results(), None, None, None, None)


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
        gradients = Gradients(ctx, hidden_ND, head)
        scale_N1 = (ctx.temperature * weights_N * grads[0])[:, None]
        for words in head.blocks(len(hidden_ND)):
            logits_NW = head.block(words).logits(hidden_ND) / ctx.temperature
            p_NW = (logits_NW - norm_N[:, None]).exp_()
            # d/dz: p - q inside K, p (1 - tail_q / tail_p) outside, where z = logits / T.
            p_NK = torch.where(inside(ids_NK, words), p_NW.gather(-1, local(ids_NK, words)), 0)
            add_at(p_NW, ids_NK, -p_NK, words)
            grad_NW = p_NW.mul_((1 - ratio_N)[:, None])
            add_at(grad_NW, ids_NK, p_NK - q_NK, words)
            gradients.add(words, grad_NW.mul_(scale_N1))
        return (*gradients.results(), None, None, None, None, None)


def inside(ids_NK: torch.Tensor, words: slice) -> torch.Tensor:
    """Return which ids [N, K] lie in the block."""
    return (ids_NK >= words.start) & (ids_NK < words.stop)


def local(ids_NK: torch.Tensor, words: slice) -> torch.Tensor:
    """Return the ids counted from the block's start; ids outside it are clamped to its borders."""
    return (ids_NK - words.start).clamp_(0, words.stop - words.start - 1)


def add_at(
    target_NW: torch.Tensor, ids_NK: torch.Tensor, values_NK: torch.Tensor, words: slice
) -> None:
    """Add values at the vocabulary ids that lie in the block."""
    values_NK = torch.where(inside(ids_NK, words), values_NK, 0).to(target_NW.dtype)
    target_NW.scatter_add_(-1, local(ids_NK, words), values_NK)


class Gradients:
    """Gradients of the hidden states, the output matrix and its bias, block by block."""

    def __init__(self, ctx: Any, hidden_ND: torch.Tensor, head: Head) -> None:
        wanted = ctx.needs_input_grad
        self._hidden_ND, self._head = hidden_ND, head
        # Summed over blocks in float32: in bfloat16 small addends would be lost.
        self._grad_ND = torch.zeros_like(widened(hidden_ND)) if wanted[0] else None
        self._by_blocks = wanted[0]
        self._grad_VD = torch.empty_like(head.weight_VD) if wanted[1] else None
        self._grad_V = None
        if head.bias_V is not None and wanted[2]:
            self._grad_V = torch.empty_like(head.bias_V)

    @property
    def open(self) -> bool:
        """Whether blocks have something to add."""
        return self._by_blocks or self._grad_VD is not None or self._grad_V is not None

    def add_rows(self, ids_NK: torch.Tensor, grad_NK: torch.Tensor) -> None:
        """Take in the hidden states' gradient where only the logits of `ids` have one."""
        if self._grad_ND is not None:
            narrow_NK = grad_NK.to(self._hidden_ND.dtype)
            self._grad_ND = weighted_rows(self._head.weight_VD, ids_NK, narrow_NK)
        self._by_blocks = False

    def add(self, words: slice, grad_NW: torch.Tensor) -> None:
        """Take in the gradient of all tokens' logits in one block."""
        narrow_NW = grad_NW.to(self._hidden_ND.dtype)
        if self._grad_ND is not None and self._by_blocks:
            self._grad_ND += narrow_NW @ self._head.weight_VD[words]
        # All tokens at once: these rows of the gradient are final, and written in place.
        if self._grad_VD is not None:
            torch.matmul(narrow_NW.T, self._hidden_ND, out=self._grad_VD[words])
        if self._grad_V is not None:
            self._grad_V[words] = grad_NW.sum(0)

    def results(self) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of hidden states, output matrix and bias; None for unwanted ones."""
        grad_ND = None if self._grad_ND is None else self._grad_ND.to(self._hidden_ND.dtype)
        return grad_ND, self._grad_VD, self._grad_V
