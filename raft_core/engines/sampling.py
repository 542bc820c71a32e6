"""Sampling with a seed per row inside `transformers.generate`, by the Gumbel-max trick."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor


class SeededSampling(LogitsProcessor):
    """Adds Gumbel noise from one generator per row, so that greedy search draws a sample.

    argmax(logits / T + Gumbel) is an exact sample of softmax(logits / T), and with a generator
    per row it does not depend on which other rows share the batch.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float = 1.0) -> None:
        self._seeds = list(seeds)
        self._generators: list[torch.Generator] = []
        self._temperature, self._top_p = temperature, top_p

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.Tensor:
        scaled_BV = scores.float() / self._temperature
        if self._top_p < 1:
            scaled_BV = _keep_nucleus(scaled_BV, self._top_p)
        if not self._generators:
            device = scores.device
            self._generators = [torch.Generator(device).manual_seed(seed) for seed in self._seeds]
        noise_BV = torch.empty_like(scaled_BV)
        for row_V, generator in zip(noise_BV, self._generators, strict=True):
            row_V.exponential_(generator=generator)
        return scaled_BV - noise_BV.clamp_min(1e-20).log()


def _keep_nucleus(scores_BV: torch.Tensor, top_p: float) -> torch.Tensor:
    sorted_BV, order_BV = scores_BV.sort(dim=-1, descending=True)
    before_BV = sorted_BV.softmax(-1).cumsum(-1) - sorted_BV.softmax(-1)
    drop_BV = torch.zeros_like(before_BV, dtype=torch.bool).scatter(
        -1, order_BV, before_BV >= top_p
    )
    return scores_BV.masked_fill(drop_BV, -torch.inf)
