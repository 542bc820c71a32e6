"""Measure the distillation loss on a GPU: chunked, dense, and over the full vocabulary.

Every variant makes the loss of the same N positions from hidden states, and the gradients of the
student's hidden states and output matrix. Variants take turns; each starts with the allocator empty
and does the work once untimed, so that none pays for the memory of another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.gpu_card import GIB, Card, reason
from benchmarks.gpu_cases import Sizes
from benchmarks.objective import chunked, dense
from raft_core.distill.loss import chunked as implementation
from raft_core.distill.loss.chunked import Head
from raft_core.distill.loss.losses import cross_entropy

TEMPERATURE = 1.5
Variant = Callable[[], torch.Tensor]


class Inputs:
    """Random hidden states and an output matrix [V, D], whose logits vary by about 3."""

    def __init__(self, tokens: int, sizes: Sizes, device: str) -> None:
        torch.manual_seed(0)
        place = {"device": device, "dtype": torch.bfloat16}
        width = sizes.objective_hidden
        self.weight_VD = torch.randn(sizes.objective_vocabulary, width, **place)
        self.weight_VD.mul_(3 / math.sqrt(width)).requires_grad_()
        self.hidden_ND = torch.randn(tokens, width, **place).requires_grad_()
        self.teacher_ND = torch.randn(tokens, width, **place)
        self.labels_N = torch.randint(sizes.objective_vocabulary, (tokens,), device=device)
        self.top_k = sizes.top_k

    def forget_gradients(self) -> None:
        self.weight_VD.grad = self.hidden_ND.grad = None

    def kl(self, trained: bool = True) -> torch.Tensor:
        weight_VD = self.weight_VD if trained else self.weight_VD.detach()
        return chunked(self.hidden_ND, weight_VD, self.teacher_ND, self.top_k, TEMPERATURE)

    def cross_entropy(self, trained: bool = True) -> torch.Tensor:
        weight_VD = self.weight_VD if trained else self.weight_VD.detach()
        weights_N = torch.full_like(self.labels_N, 1 / len(self.labels_N), dtype=torch.float32)
        return cross_entropy(self.hidden_ND, Head(weight_VD), self.labels_N, weights_N)

    def dense(self) -> torch.Tensor:
        return dense(self.hidden_ND, self.weight_VD, self.teacher_ND, self.top_k, TEMPERATURE)

    def jsd(self) -> torch.Tensor:
        return full_vocabulary_jsd(self.hidden_ND, self.weight_VD, self.teacher_ND)


def full_vocabulary_jsd(
    hidden_ND: torch.Tensor, weight_VD: torch.Tensor, teacher_ND: torch.Tensor, beta: float = 0.5
) -> torch.Tensor:
    """Return the generalised Jensen-Shannon divergence as TRL's GKD computes it, in float32."""
    student_NV = F.log_softmax((hidden_ND @ weight_VD.T).float() / TEMPERATURE, dim=-1)
    with torch.no_grad():
        teacher_NV = F.log_softmax((teacher_ND @ weight_VD.T).float() / TEMPERATURE, dim=-1)
    shares = torch.stack([student_NV + math.log(1 - beta), teacher_NV + math.log(beta)])
    mixture_NV = torch.logsumexp(shares, dim=0)
    of_teacher = F.kl_div(mixture_NV, teacher_NV, reduction="none", log_target=True)
    of_student = F.kl_div(mixture_NV, student_NV, reduction="none", log_target=True)
    jsd = beta * of_teacher + (1 - beta) * of_student
    return jsd.sum() / len(hidden_ND)


def measured(card: Card, inputs: Inputs, variants: dict[str, Variant], repeats: int) -> Any:
    """Return by variant the seconds of every round and GiB beyond the inputs, or the failure."""
    found: dict[str, dict[str, Any]] = {name: {"seconds": []} for name in variants}
    for _ in range(repeats):
        for name, variant in variants.items():
            if "error" not in found[name]:
                note_round(card, inputs, variant, found[name])
    return found


def note_round(card: Card, inputs: Inputs, variant: Variant, found: dict[str, Any]) -> None:
    """Add one round to what was found, or put the reason of its failure in its place."""
    try:
        seconds, peak = one_round(card, inputs, variant)
    except Exception as failure:  # out of memory above all; the other variants go on
        found.clear()
        found["error"] = reason(failure)
    else:
        found["seconds"].append(seconds)
        found["gib"] = peak / GIB
    inputs.forget_gradients()
    card.clear() if "error" in found else card.empty()


def one_round(card: Card, inputs: Inputs, variant: Variant) -> tuple[float, int]:
    """Return the seconds of the second pass of two, and its peak in bytes beyond the inputs."""

    def work() -> None:
        inputs.forget_gradients()
        variant().backward()

    work()
    inputs.forget_gradients()
    card.forget_peak()
    before = card.allocated()
    return card.seconds(work), card.peak() - before


def beside_others(card: Card, sizes: Sizes, tokens: int) -> dict[str, Any]:
    """Measure the project's loss beside what a user would write or pick instead."""
    inputs = Inputs(tokens, sizes, card.device)
    variants = {"chunked": inputs.kl, "dense": inputs.dense, "jsd": inputs.jsd}
    return {"tokens": tokens, "variants": measured(card, inputs, variants, sizes.repeats)}


def rows_alone(card: Card, sizes: Sizes) -> dict[str, Any]:
    """Measure reading K rows of the output matrix a token, in place of the product over all V."""
    found = {}
    for tokens in (sizes.objective_tokens[0], sizes.swept_tokens):
        found[str(tokens)] = rows_alone_at(card, sizes, tokens)
        card.clear()
    return {"tokens": found}


def rows_alone_at(card: Card, sizes: Sizes, tokens: int) -> Any:
    inputs = Inputs(tokens, sizes, card.device)
    variants = {
        f"{'trained' if trained else 'frozen'}, {'rows alone' if sparse else 'all words'}": (
            lambda trained=trained, sparse=sparse: with_rows_alone(inputs, trained, sparse)
        )
        for trained in (True, False)
        for sparse in (False, True)
    }
    return measured(card, inputs, variants, sizes.repeats)


def with_rows_alone(inputs: Inputs, trained: bool, sparse: bool) -> torch.Tensor:
    """Return the loss; the switch also holds in the backward pass."""
    Head.sparse = lambda self, top_k: sparse  # type: ignore[method-assign]
    return inputs.kl(trained)


def chunk_sizes(card: Card, sizes: Sizes) -> dict[str, Any]:
    """Measure every chunk size, for both losses, with the output matrix trained and frozen."""
    inputs = Inputs(sizes.swept_tokens, sizes, card.device)
    makers = {"kl": inputs.kl, "cross_entropy": inputs.cross_entropy}
    variants = {
        f"2^{exponent} {name} {'trained' if trained else 'frozen'}": (
            lambda make=make, trained=trained, exponent=exponent: in_chunks(make, trained, exponent)
        )
        for exponent in sizes.chunk_exponents
        for name, make in makers.items()
        for trained in (True, False)
    }
    with unchanged_settings():
        found = measured(card, inputs, variants, 3)
    return {"tokens": sizes.swept_tokens, "variants": found}


def in_chunks(make: Callable[[bool], torch.Tensor], trained: bool, exponent: int) -> torch.Tensor:
    """Return the loss at a chunk size, which stays for the backward pass."""
    implementation.CUDA_CHUNK_ELEMENTS = 2**exponent
    return make(trained)


@contextmanager
def unchanged_settings() -> Iterator[None]:
    """Restore afterwards what cases set for a moment."""
    elements, sparse = implementation.CUDA_CHUNK_ELEMENTS, Head.sparse
    try:
        yield
    finally:
        implementation.CUDA_CHUNK_ELEMENTS = elements
        Head.sparse = sparse  # type: ignore[method-assign]


def run_case(name: str, sizes: Sizes, card: Card) -> dict[str, Any]:
    with unchanged_settings():
        if name == "rows alone":
            return rows_alone(card, sizes)
        if name == "chunks":
            return chunk_sizes(card, sizes)
        return beside_others(card, sizes, int(name.split()[0]))
