"""Decoding by a captured CUDA graph: `decode` without a kernel launch per operation.

A step of a few rows costs a GPU far less than the thousands of launches that ask for it. Here one
step works on tensors that stay where they are, keys and values included; it is captured once and
replayed for every position. An optimizer writes weights in place, so that a captured step follows
them; where the tensors are others, it is captured anew. Without a GPU the step runs uncaptured.
Dimensions: B rows, T columns of the kept keys and values, H heads, E size of a head, V vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from raft_core.engines.base import Sampling
from raft_core.engines.decoding import decode, is_plain
from raft_core.engines.sampling import SeededChoice

GROUPED = "raft_grouped"
# By these a four-dimensional boolean mask is taken as it is.
MASKED_BY_BOOLEANS = {"sdpa", "raft_packed"}
COLUMNS = 128  # kept columns are a multiple: batches of about the same length share a graph
STEPS_APART = 8  # ids are read this often: the GPU need not wait for the host at each step
WARM_UPS = 3
WASTE = 2  # room is kept for the largest batch and the longest one together up to this factor
# Of a replay beside the same step uncaptured, relative to the largest logit: rounding in bfloat16
# is far below, and what a graph gets wrong (weights of another step, a wrong column) far above.
TOLERANCE = 0.05

logger = logging.getLogger(__name__)


def can_capture(model: Any) -> bool:
    """Whether a step can be captured: a plain model whose steps read nothing back from the GPU."""
    config = model.config.get_text_config(decoder=True)
    rope = getattr(config, "rope_parameters", None) or {}
    # These choose their frequencies by the longest position of a pass.
    moves = {"dynamic", "longrope"} & {rope.get("rope_type"), rope.get("type")}
    return (
        not moves
        and config._attn_implementation in MASKED_BY_BOOLEANS
        and bool(getattr(model, "_can_compile_fullgraph", False))
        and not hasattr(model, "hf_device_map")
        and len({parameter.device for parameter in model.parameters()}) == 1
        and is_plain(model)
    )


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """One token's attention: heads that share keys are its queries, so that no key is copied."""
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
        keys, values = self.layers[layer_idx]
        return keys.index_copy_(2, self.column, key), values.index_copy_(2, self.column, value)

    def get_seq_length(self, layer_idx: int = 0) -> torch.Tensor:
        return self.column

    def load(self, found: DynamicCache) -> None:
        """Take over what a prefill has computed; all else is zero, as masked columns are read."""
        for kept, layer in zip(self.layers, found.layers, strict=True):
            for target, states in zip(kept, (layer.keys, layer.values), strict=True):
                target.zero_()
                target[: states.shape[0], :, : states.shape[2]] = states


class Step:
    """One token further for B rows, on tensors that stay where they are."""

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
    def bytes(self) -> int:
        """Of keys and values."""
        return sum(states.nbytes for layer in self.cache.layers for states in layer)

    def load(self, found: DynamicCache, mask_BT: torch.Tensor) -> None:
        """Start behind a prefill, whose mask [rows, width] may have fewer rows."""
        rows, width = mask_BT.shape
        self.cache.load(found)
        self.cache.column.fill_(width)
        self.mask_B11T.zero_()
        self.mask_B11T[:rows, 0, 0, :width] = mask_BT
        self.ids_B1.zero_()
        self.positions_B1.zero_()
        self.positions_B1[:rows] = mask_BT.sum(-1, keepdim=True)

    def run(self, model: Any, tokens_B: torch.Tensor) -> torch.Tensor:
        """Logits [B, V] after one more token of every row; the next call may overwrite them."""
        self.ids_B1[: len(tokens_B), 0] = tokens_B
        if self._graph is None:
            return self._compute(model)
        self._graph.replay()
        assert self._logits_BV is not None
        return self._logits_BV

    def capture(self, model: Any) -> None:
        """What `run` computes, as a graph; what was loaded is overwritten."""
        current, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(current)
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                self._compute(model)
        current.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # Weights that autocast has cast before would be captured as they were then; and what it
        # casts inside belongs to the graph.
        torch.clear_autocast_cache()
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._logits_BV = self._compute(model)
        finally:
            torch.clear_autocast_cache()
            torch.cuda.set_stream(current)  # a capture that fails leaves its own behind
        self._graph = graph

    def check(self, model: Any, tokens_B: torch.Tensor) -> None:
        """Replay a step beside the same one uncaptured; the step is then still to be run.

        Raises:
            RuntimeError: they differ.
        """
        self.ids_B1[: len(tokens_B), 0] = tokens_B
        wanted_BV = self._compute(model)[: len(tokens_B)].float()
        self._back()
        found_BV = self.run(model, tokens_B)[: len(tokens_B)]
        self._back()
        furthest = (found_BV.float() - wanted_BV).abs().max()
        if not bool(furthest <= TOLERANCE * wanted_BV.abs().max()):
            raise RuntimeError("a replayed step differs from the same step uncaptured")

    def _compute(self, model: Any) -> torch.Tensor:
        self.mask_B11T.index_fill_(3, self.cache.column, True)
        with _grouped(model):
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


class GraphDecoder:
    """Decodes as `decode` does, with one captured step that is kept from call to call."""

    def __init__(self) -> None:
        self._step: Step | None = None
        self._captured: tuple[Any, ...] = ()
        self.failure: str | None = None  # why no step could be captured

    @property
    def bytes(self) -> int:
        """Of the kept keys and values."""
        return self._step.bytes if self._step else 0

    @property
    def is_captured(self) -> bool:
        """Whether the last call replayed a graph."""
        return self._step is not None and self._step._graph is not None

    def free(self) -> None:
        """Give the kept memory back; the next call captures anew."""
        self._step, self._captured = None, ()

    def decode(
        self,
        model: Any,
        prompts: Sequence[list[int]],
        seeds: Sequence[int],
        sampling: Sampling,
        *,
        stop_ids: Sequence[int],
        pad_id: int,
    ) -> list[list[int]]:
        """As `decode`, which also does it where a step cannot be captured: a warning tells once."""
        options: dict[str, Any] = {"stop_ids": stop_ids, "pad_id": pad_id}
        if self.failure is None:
            try:
                return self._decode(model, prompts, seeds, sampling, **options)
            except NotCapturedError as error:
                self.failure = str(error)
                logger.warning("no CUDA graph of a decoding step, going on without: %s", error)
        return decode(model, prompts, seeds, sampling, **options)

    @torch.no_grad()
    def _decode(
        self,
        model: Any,
        prompts: Sequence[list[int]],
        seeds: Sequence[int],
        sampling: Sampling,
        *,
        stop_ids: Sequence[int],
        pad_id: int,
    ) -> list[list[int]]:
        cache, mask_BT, logits_BV = prefill(model, prompts, pad_id)
        choice = SeededChoice(seeds, sampling.temperature, sampling.top_p, model.device)
        tokens_B = choice.tokens(logits_BV)
        step = self._started(model, cache, mask_BT, tokens_B, sampling.max_tokens)
        del cache
        drawn, found, stops = [tokens_B], [[] for _ in prompts], set(stop_ids)
        for place in range(1, sampling.max_tokens):
            logits_BV = step.run(model, tokens_B)[: len(prompts)]
            tokens_B = choice.tokens(logits_BV)
            drawn.append(tokens_B)
            if place % STEPS_APART == 0 and _append(found, drawn, stops):
                return found
        _append(found, drawn, stops)
        return found

    def _started(
        self,
        model: Any,
        cache: DynamicCache,
        mask_BT: torch.Tensor,
        tokens_B: torch.Tensor,
        max_tokens: int,
    ) -> Step:
        """A step behind this prefill: the kept one, or a new one if that one does not fit."""
        rows, width = mask_BT.shape
        # A step is run for all tokens but the last; the check needs no more columns.
        length = -(-(width + max_tokens) // COLUMNS) * COLUMNS
        state, kept = _state(model), self._step
        if kept and self._captured == state and kept.rows >= rows and kept.length >= length:
            kept.load(cache, mask_BT)
            return kept
        if kept and max(kept.rows, rows) * max(kept.length, length) <= WASTE * rows * length:
            rows, length = max(kept.rows, rows), max(kept.length, length)
        del kept
        self.free()
        try:
            step = Step(cache, rows, length)
            if model.device.type == "cuda":
                step.capture(model)
            step.load(cache, mask_BT)
            if model.device.type == "cuda":
                step.check(model, tokens_B)
        except Exception as failure:  # whatever it is: without a graph it can be done too
            raise NotCapturedError(_told(failure)) from failure
        self._step, self._captured = step, state
        return step


class NotCapturedError(Exception):
    """A step cannot be captured, or there is no memory for it."""


def prefill(
    model: Any, prompts: Sequence[list[int]], pad_id: int
) -> tuple[DynamicCache, torch.Tensor, torch.Tensor]:
    """Keys and values of left-padded prompts, their mask [B, width], and the next logits [B, V]."""
    width = max(map(len, prompts))
    ids = [[pad_id] * (width - len(prompt)) + prompt for prompt in prompts]
    seen = [[False] * (width - len(prompt)) + [True] * len(prompt) for prompt in prompts]
    mask_BT = torch.tensor(seen, device=model.device)
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    output = model(
        input_ids=torch.tensor(ids, device=model.device),
        attention_mask=mask_BT.long(),
        position_ids=(mask_BT.cumsum(-1) - 1).clamp_min_(0),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return cache, mask_BT, output.logits[:, -1]


def _told(failure: BaseException) -> str:
    """By the first cause: ending a capture that failed fails as well."""
    while failure.__context__ is not None:
        failure = failure.__context__
    return f"{type(failure).__name__}: {' '.join(str(failure).split())[:300]}"


def _append(found: list[list[int]], drawn: list[torch.Tensor], stops: set[int]) -> bool:
    """Move drawn ids to the rows that go on; whether all rows are done."""
    for row, ids in zip(found, torch.stack(drawn, 1).tolist(), strict=True):
        for token in ids:
            if row and row[-1] in stops:
                break
            row.append(token)
    drawn.clear()
    return all(row[-1] in stops for row in found)


def _state(model: Any) -> tuple[Any, ...]:
    """What a captured step depends on beside the values of the weights."""
    tensors = [*model.parameters(), *model.buffers()]
    adapters = [
        (getattr(module, "merged", None), module.disable_adapters, *module.active_adapters)
        for module in model.modules()
        if hasattr(module, "disable_adapters")
    ]
    kind = model.device.type
    autocast = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind)
    places = [(tensor.data_ptr(), tensor.dtype) for tensor in tensors]
    return (model.training, autocast, places, adapters)
