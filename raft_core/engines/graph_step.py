"""One decoding step on tensors that stay where they are, so that a CUDA graph can replay it.

Dimensions: B rows, T columns of the kept keys and values, H heads, E size of a head, V vocabulary;
G heads that share keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward

GROUPED = "raft_grouped"
WARM_UPS = 3
# Largest difference between a replay and the model's own step, relative to the largest logit:
# rounding in bfloat16 stays far below, a graph that reads wrong memory far above.
TOLERANCE = 0.1


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Compute one token's attention; heads that share keys become its queries: no key is copied."""
    rows, heads, tokens, size = query.shape
    if tokens != 1 or kwargs.get("position_bias") is not None:
        options = {"scaling": scaling, **kwargs}
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return output, None
    groups_BHGE = query.reshape(rows, key.shape[1], heads // key.shape[1], size)
    output = F.scaled_dot_product_attention(
        groups_BHGE, key, value, attn_mask=attention_mask, scale=scaling
    )
    return output.reshape(rows, 1, heads, -1), None


AttentionInterface.register(GROUPED, grouped_attention)


@contextmanager
def _grouped(model: Any) -> Iterator[None]:
    config = model.config.get_text_config(decoder=True)
    before = config._attn_implementation
    config._attn_implementation = GROUPED
    try:
        yield
    finally:
        config._attn_implementation = before


class FixedCache:
    """Keys and values [B, H, T, E] of every layer, in place; new ones go to column `column`."""

    is_compileable = False
    is_sliding: tuple[bool, ...] = ()

    def __init__(self, like: DynamicCache, rows: int, length: int) -> None:
        self.layers = [
            tuple(
                states.new_zeros(rows, states.shape[1], length, states.shape[3])
                for states in (layer.keys, layer.values)
            )
            for layer in like.layers
        ]
        self.column = torch.zeros(1, dtype=torch.long, device=self.layers[0][0].device)

    def update(
        self, key: torch.Tensor, value: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write new keys and values at the current column; return all columns of the layer."""
        # Autocast leaves them in two types; the prefill's cache has one.
        keys, values = (
            kept.index_copy_(2, self.column, states.to(kept.dtype))
            for kept, states in zip(self.layers[layer_idx], (key, value), strict=True)
        )
        return keys, values

    def get_seq_length(self, layer_idx: int = 0) -> torch.Tensor:
        """Return the current column."""
        return self.column

    def load(self, found: DynamicCache) -> None:
        """Take over a prefill's keys and values; zero the rest, as masked columns are read too."""
        for kept, layer in zip(self.layers, found.layers, strict=True):
            for target, states in zip(kept, (layer.keys, layer.values), strict=True):
                target.zero_()
                target[: states.shape[0], :, : states.shape[2]] = states


class Step:
    """One decoding step of B rows, on tensors that stay where they are."""

    def __init__(self, like: DynamicCache, rows: int, length: int) -> None:
        self.rows, self.length = rows, length
        self.cache = FixedCache(like, rows, length)
        device = self.cache.column.device
        self.ids_B1 = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self.positions_B1 = torch.zeros_like(self.ids_B1)
        self.mask_B11T = torch.zeros(rows, 1, 1, length, dtype=torch.bool, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._logits_BV: torch.Tensor | None = None

    @property
    def is_captured(self) -> bool:
        """Whether the step replays a graph."""
        return self._graph is not None

    @property
    def bytes(self) -> int:
        """Bytes of the keys and values."""
        return sum(states.nbytes for layer in self.cache.layers for states in layer)

    def load(self, found: DynamicCache, mask_BT: torch.Tensor) -> None:
        """Start after a prefill, whose mask [rows, width] may have fewer rows."""
        rows, width = mask_BT.shape
        self.cache.load(found)
        self.cache.column.fill_(width)
        self.mask_B11T.zero_()
        self.mask_B11T[:rows, 0, 0, :width] = mask_BT
        self.ids_B1.zero_()
        self.positions_B1.zero_()
        self.positions_B1[:rows] = mask_BT.sum(-1, keepdim=True)

    def run(self, model: Any, tokens_B: torch.Tensor) -> torch.Tensor:
        """Return logits [B, V] after one more token a row; the next call may overwrite them."""
        self.ids_B1[: len(tokens_B), 0] = tokens_B
        if self._graph is None:
            return self._compute(model)
        self._graph.replay()
        assert self._logits_BV is not None
        return self._logits_BV

    def capture(self, model: Any) -> None:
        """Capture what `run` computes as a graph; overwrites what was loaded."""
        current, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(current)
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                self._compute(model)
        current.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # Autocast caches casts of weights. A cast made before the capture would be frozen in the
        # graph, and one made inside it belongs to the graph alone: the cache is emptied twice.
        torch.clear_autocast_cache()
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._logits_BV = self._compute(model)
        finally:
            torch.clear_autocast_cache()
            torch.cuda.set_stream(current)  # a capture that fails leaves its own behind
        self._graph = graph

    def check(self, model: Any, tokens_B: torch.Tensor) -> None:
        """Compare a replayed step with the model's own computation, then step back.

        Raises:
            RuntimeError: they differ.
        """
        self.ids_B1[: len(tokens_B), 0] = tokens_B
        wanted_BV = self._forward(model)[: len(tokens_B)].float()
        self._back()
        found_BV = self.run(model, tokens_B)[: len(tokens_B)]
        self._back()
        furthest = (found_BV.float() - wanted_BV).abs().max()
        if not bool(furthest <= TOLERANCE * wanted_BV.abs().max()):
            raise RuntimeError("a replayed step differs from what the model computes")

    def _compute(self, model: Any) -> torch.Tensor:
        with _grouped(model):
            return self._forward(model)

    def _forward(self, model: Any) -> torch.Tensor:
        self.mask_B11T.index_fill_(3, self.cache.column, True)
        output = model(
            input_ids=self.ids_B1,
            attention_mask=self.mask_B11T,
            position_ids=self.positions_B1,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.cache.column.add_(1)
        self.positions_B1.add_(1)
        logits_BV: torch.Tensor = output.logits[:, -1]
        return logits_BV

    def _back(self) -> None:
        self.cache.column.sub_(1)
        self.positions_B1.sub_(1)
