"""A decoding loop for plain causal models: what `transformers.generate` computes, with less around.

Rows that are done leave the batch, the mask of a step is a slice of one that was made at the start,
and nothing is prepared, validated or wrapped between two forward passes. Dimensions: B rows,
T tokens, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache, GenerationMixin
from transformers.cache_utils import DynamicLayer

from raft_core.engines.base import Sampling
from raft_core.engines.sampling import SeededChoice

INPUTS = ("input_ids", "attention_mask", "position_ids", "past_key_values", "logits_to_keep")
# What a model may do its own way inside `generate`.
HOOKS = (
    "prepare_inputs_for_generation",
    "_update_model_kwargs_for_generation",
    "_prepare_position_ids_for_generation",
    "_prepare_cache_for_generation",
)
# Rows that are done leave once they are this share of the batch: each time copies the cache.
DONE = 0.25


def is_plain(model: Any) -> bool:
    """Whether `decode` gives what `generate` would: a standard cache, and no step of its own."""
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
    """Token ids that the model appends to each prompt, up to and including a stop token."""
    device, stops = model.device, set(stop_ids)
    width = max(map(len, prompts))
    ids_BT = torch.tensor([[pad_id] * (width - len(p)) + p for p in prompts], device=device)
    mask_BT = torch.ones(len(prompts), width + sampling.max_tokens, dtype=torch.bool, device=device)
    for row, prompt in enumerate(prompts):
        mask_BT[row, : width - len(prompt)] = False
    positions_BT = (mask_BT.cumsum(-1) - 1).clamp_min_(0)
    choice = SeededChoice(seeds, sampling.temperature, sampling.top_p, device)
    cache, found, live = _new_cache(model), [[] for _ in prompts], list(range(len(prompts)))
    start = 0
    for end in range(width, width + sampling.max_tokens):
        output = model(
            input_ids=ids_BT,
            attention_mask=_mask(model, mask_BT, start, end),
            position_ids=positions_BT[:, start:end],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        tokens_B = choice.tokens(output.logits[:, -1])
        ids_BT, start = tokens_B[:, None], end
        running = []
        for place, (row, token) in enumerate(zip(live, tokens_B.tolist(), strict=True)):
            if found[row] and found[row][-1] in stops:
                continue
            found[row].append(token)
            if token not in stops:
                running.append(place)
        if not running:
            break
        if len(running) <= len(live) * (1 - DONE):
            kept = torch.tensor(running, device=device)
            cache.batch_select_indices(kept)
            ids_BT, mask_BT, positions_BT = ids_BT[kept], mask_BT[kept], positions_BT[kept]
            choice.keep(running)
            live = [live[place] for place in running]
    return found


def _new_cache(model: Any) -> Any:
    return DynamicCache(config=model.config.get_text_config(decoder=True))


def _mask(model: Any, mask_BT: torch.Tensor, start: int, end: int) -> torch.Tensor:
    """Of one pass: a step's is what the model would make of the two-dimensional one."""
    one_token = end - start == 1
    if one_token and model._can_compile_fullgraph and model.config._attn_implementation == "sdpa":
        return mask_BT[:, None, None, :end]
    return mask_BT[:, :end].long()
