"""Decode by a captured CUDA graph: `decode` without a kernel launch per operation.

A step of a few rows costs a GPU far less than the thousands of launches that ask for it. Here one
step works on tensors that stay where they are, keys and values included; it is captured once and
replayed for every position. An optimizer writes weights in place, so a captured step follows them;
where the tensors are others, it is captured anew. Without a GPU the step runs uncaptured.
Dimensions: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

from raft_core.engines.base import Sampling
from raft_core.engines.decoding import decode, is_plain
from raft_core.engines.graph_step import Step
from raft_core.engines.sampling import SeededChoice

# Attention implementations that take a four-dimensional boolean mask as it is.
MASKED_BY_BOOLEANS = {"sdpa", "raft_packed"}
COLUMNS = 128  # columns are a multiple, so that batches of similar length share a graph
STEPS_APART = 8  # steps between reads of ids: the GPU need not wait for the host each time
WASTE = 2  # the cache may be so many times larger than a batch needs, to fit others too

logger = logging.getLogger(__name__)


def can_capture(model: Any) -> bool:
    """Return whether a step can be captured: a plain model that reads nothing back from the GPU."""
    config = model.config.get_text_config(decoder=True)
    rope = getattr(config, "rope_parameters", None) or {}
    # These kinds choose their frequencies by the longest position of a pass: not fixed in a graph.
    moves = {"dynamic", "longrope"} & {rope.get("rope_type"), rope.get("type")}
    return (
        not moves
        and config._attn_implementation in MASKED_BY_BOOLEANS
        and bool(getattr(model, "_can_compile_fullgraph", False))
        and not hasattr(model, "hf_device_map")
        and len({parameter.device for parameter in model.parameters()}) == 1
        and is_plain(model)
    )


class GraphDecoder:
    """Decode as `decode` does, with one captured step that is kept from call to call."""

    def __init__(self) -> None:
        self._step: Step | None = None
        self._captured: tuple[Any, ...] = ()
        self.failure: str | None = None  # why no step could be captured

    @property
    def bytes(self) -> int:
        """Bytes of the kept keys and values."""
        return self._step.bytes if self._step else 0

    @property
    def is_captured(self) -> bool:
        """Whether the last call replayed a graph."""
        return self._step is not None and self._step.is_captured

    def free(self) -> None:
        """Free the kept memory; the next call captures anew."""
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
        """Decode as the function `decode`, which also takes over if no step can be captured.

        The first failure is logged as a warning; later calls do not try again.
        """
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
        found: list[list[int]] = [[] for _ in prompts]
        drawn, stops = [tokens_B], set(stop_ids)
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
        """Return a step loaded with this prefill: the kept one if it fits, else a new one."""
        rows, width = mask_BT.shape
        # The last token needs no step, so there is a column to spare for the check.
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
        except Exception as failure:  # any failure: decoding works without a graph too
            raise NotCapturedError(_told(failure)) from failure
        self._step, self._captured = step, state
        return step


class NotCapturedError(Exception):
    """A step cannot be captured, or there is no memory for it."""


def prefill(
    model: Any, prompts: Sequence[list[int]], pad_id: int
) -> tuple[DynamicCache, torch.Tensor, torch.Tensor]:
    """Run left-padded prompts; return their cache, their mask [B, width] and next logits [B, V]."""
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
    """Describe a failure by its first cause: ending a capture that failed fails as well."""
    while failure.__context__ is not None:
        failure = failure.__context__
    return f"{type(failure).__name__}: {' '.join(str(failure).split())[:300]}"


def _append(found: list[list[int]], drawn: list[torch.Tensor], stops: set[int]) -> bool:
    """Move drawn ids to the rows that go on; return whether all rows are done."""
    for row, ids in zip(found, torch.stack(drawn, 1).tolist(), strict=True):
        for token in ids:
            if row and row[-1] in stops:
                break
            row.append(token)
    drawn.clear()
    return all(row[-1] in stops for row in found)


def _state(model: Any) -> tuple[Any, ...]:
    """Return what a captured step depends on beside the values of the weights."""
    tensors = [*model.parameters(), *model.buffers()]
    adapters = [
        (module.merged, module.disable_adapters, *module.active_adapters)
        for module in model.modules()
        if hasattr(module, "base_layer")
    ]
    kind = model.device.type
    autocast = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind)
    places = [(tensor.data_ptr(), tensor.dtype) for tensor in tensors]
    return (model.training, autocast, places, adapters)
