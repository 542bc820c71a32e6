"""Decode plain causal models as `transformers.generate` does, with less work around each step.

Rows that are done leave the batch, the mask of a step is a slice of one that was made at the start,
and nothing is prepared, validated or wrapped between two forward passes. Dimensions: B rows, T
tokens, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache, GenerationMixin
from transformers.cache_utils import DynamicLayer
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask

from raft_core.engines.base import Sampling
from raft_core.engines.sampling import SeededChoice

INPUTS = ("input_ids", "attention_mask", "position_ids", "past_key_values", "logits_to_keep")
# Methods of `generate` that a model may override; `decode` calls none of them.
HOOKS = (
    "prepare_inputs_for_generation",
    "_update_model_kwargs_for_generation",
    "_prepare_position_ids_for_generation",
    "_prepare_cache_for_generation",
)
# Rows that are done leave once they are this share of the batch: each time copies the cache.
DONE = 0.25


def is_plain(model: Any) -> bool:
    """Return whether `decode` gives what `generate` would: a standard cache, no step of its own."""
    kind = type(model)
    return (
        isinstance(model, GenerationMixin)
        and not model.config.is_encoder_decoder
        and not model.is_remote_code()
        and set(INPUTS) <= set(inspect.signature(kind.forward).parameters)
        and all(getattr(kind, hook) is getattr(GenerationMixin, hook) for hook in HOOKS)
        and all(type(layer) is DynamicLayer for layer in _new_cache(model).layers)
        and not any(hasattr(module, "experts") for module in model.modules())
    )


@torch.no_grad()
def decode(
    model: Any,
    prompts: Sequence[list[int]],
    seeds: Sequence[int],
    sampling: Sampling,
    *,
    stop_ids: Sequence[int],
    pad_id: int,
) -> list[list[int]]:
    """Return the token ids that the model appends to each prompt, up to a stop token, inclusive."""
    batch = _Batch(model, prompts, seeds, sampling, pad_id)
    found: list[list[int]] = [[] for _ in prompts]
    stops, done = set(stop_ids), [False] * len(prompts)
    for _ in range(sampling.max_tokens):
        for row, token in zip(batch.rows, batch.step(), strict=True):
            if not done[row]:
                found[row].append(token)
                done[row] = token in stops
        running = [place for place, row in enumerate(batch.rows) if not done[row]]
        if not running:
            break
        if len(running) <= len(batch.rows) * (1 - DONE):
            batch.keep(running)
    return found


class _Batch:
    """Rows at work: `rows` are their numbers, and each step appends a token to every one."""

    def __init__(
        self,
        model: Any,
        prompts: Sequence[list[int]],
        seeds: Sequence[int],
        sampling: Sampling,
        pad_id: int,
    ) -> None:
        width, device = max(map(len, prompts)), model.device
        padding = [width - len(prompt) for prompt in prompts]
        ids = [[pad_id] * left + prompt for left, prompt in zip(padding, prompts, strict=True)]
        columns_T = torch.arange(width + sampling.max_tokens, device=device)
        padding_B1 = torch.tensor(padding, device=device)[:, None]
        self.rows = list(range(len(prompts)))
        self._model, self._cache = model, _new_cache(model)
        self._choice = SeededChoice(seeds, sampling.temperature, sampling.top_p, device)
        self._ids_BT = torch.tensor(ids, device=device)
        self._mask_BT = columns_T >= padding_B1
        self._positions_BT = (columns_T - padding_B1).clamp_min(0)
        self._start, self._end = 0, width
        self._takes_ready_mask = model._can_compile_fullgraph and _masks_by_sdpa(model)

    def step(self) -> list[int]:
        """Compute the next token of every row."""
        output = self._model(
            input_ids=self._ids_BT,
            attention_mask=self._mask(),
            position_ids=self._positions_BT[:, self._start : self._end],
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        tokens_B = self._choice.tokens(output.logits[:, -1])
        self._ids_BT, self._start, self._end = tokens_B[:, None], self._end, self._end + 1
        tokens: list[int] = tokens_B.tolist()
        return tokens

    def keep(self, places: Sequence[int]) -> None:
        """Continue with the rows at these places alone."""
        kept_B = torch.tensor(places, device=self._ids_BT.device)
        self._cache.batch_select_indices(kept_B)
        self._choice.keep(places)
        self._ids_BT, self._mask_BT = self._ids_BT[kept_B], self._mask_BT[kept_B]
        self._positions_BT = self._positions_BT[kept_B]
        self.rows = [self.rows[place] for place in places]

    def _mask(self) -> torch.Tensor:
        """Return the attention mask of the next pass.

        After the prompts it is the four-dimensional mask that the model would make of the
        two-dimensional one, where the model takes it as it is.
        """
        if self._start and self._takes_ready_mask:
            return self._mask_BT[:, None, None, : self._end]
        return self._mask_BT[:, : self._end].long()


def _new_cache(model: Any) -> Any:
    return DynamicCache(config=model.config.get_text_config(decoder=True))


def _masks_by_sdpa(model: Any) -> bool:
    """Return whether a mask is one boolean for each pair of a query and a key."""
    attention = model.config._attn_implementation
    return ALL_MASK_ATTENTION_FUNCTIONS.get(attention) is sdpa_mask
