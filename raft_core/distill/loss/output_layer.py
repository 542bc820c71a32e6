"""Compute on a model's last hidden states inside its own forward pass, in place of logits.

The losses need the hidden states and the output layer, not [tokens, V] logits. Wrappers that gather
weights or synchronise gradients (DDP, FSDP) do so around the forward pass of the model that they
wrap, so what uses the output layer's weight has to happen there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from raft_core.distill.loss.chunked import Head
from raft_core.distill.loss.losses import output_head
from raft_core.errors import InputError


@contextmanager
def replaced_output(
    model: Any, compute: Callable[[torch.Tensor, Head], torch.Tensor]
) -> Iterator[None]:
    """Make `model(...).logits` return `compute(hidden [B, C, D], head)` while the context lasts."""
    layer = model.get_output_embeddings()

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        return compute(hidden, output_head(layer, hidden))

    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward


def require_plain_output(returned: torch.Tensor, computed: torch.Tensor, model: Any) -> None:
    """Refuse a model that changes its logits after the output layer.

    A loss that is not a number passes: `require_finite` tells of it.

    Raises:
        InputError: what came back is not what was computed there, because the model caps or scales
            its logits.
    """
    found, expected = returned.detach().float(), computed.detach().float()
    same = found.shape == expected.shape
    if not same or not torch.allclose(found, expected, rtol=0, atol=0, equal_nan=True):
        raise InputError(
            f"model type '{model.config.model_type}' changes its logits after the output layer, "
            "which the training losses do not follow; choose another base"
        )
