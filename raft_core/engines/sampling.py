"""Sample with a seed per row, by the Gumbel-max trick.

argmax(logits / T + Gumbel) is an exact sample of softmax(logits / T). Each row's noise comes from a
generator of its own, so that a row's tokens do not depend on which other rows share the batch.
Dimensions: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor


class SeededNoise:
    """Standard exponential noise (Gumbel is -log of it), step by step, with a generator per row."""

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self._device = device

    def keep(self, rows: Sequence[int]) -> None:
        """Continue with these rows alone, by their positions."""
        self._generators = [self._generators[row] for row in rows]

    def next(self, vocabulary: int) -> torch.Tensor:
        """Return the next step's noise, float32 [B, V]."""
        shape = (len(self._generators), vocabulary)
        if self._device.type != "cpu":
            noise_BV = torch.empty(shape, device=self._device)
            for row_V, generator in zip(noise_BV, self._generators, strict=True):
                row_V.exponential_(generator=generator)
            return noise_BV
        # The same numbers as `exponential_` on a CPU, with all logarithms of a step at once.
        uniform_BV = torch.empty(shape, dtype=torch.float64)
        for row_V, generator in zip(uniform_BV, self._generators, strict=True):
            row_V.uniform_(generator=generator)
        return uniform_BV.neg_().log1p_().neg_().float()


class SeededChoice:
    """Draw the next token of every row; at temperature 0 the likeliest one."""

    def __init__(
        self, seeds: Sequence[int], temperature: float, top_p: float, device: torch.device
    ) -> None:
        self._noise = SeededNoise(seeds, device) if temperature > 0 else None
        self._temperature, self._top_p = temperature, top_p

    def keep(self, rows: Sequence[int]) -> None:
        """Continue with these rows alone, by their positions."""
        if self._noise is not None:
            self._noise.keep(rows)

    def noisy(self, logits_BV: torch.Tensor) -> torch.Tensor:
        """Return scores [B, V] of which the greatest is drawn."""
        if self._noise is None:
            return logits_BV
        scaled_BV = logits_BV.float() / self._temperature
        if self._top_p < 1:
            scaled_BV = _keep_nucleus(scaled_BV, self._top_p)
        noise_BV = self._noise.next(scaled_BV.shape[-1])
        return scaled_BV - noise_BV.clamp_min_(1e-20).log_()

    def tokens(self, logits_BV: torch.Tensor) -> torch.Tensor:
        """Draw the ids [B]."""
        return self.noisy(logits_BV).argmax(-1)


class SeededSampling(LogitsProcessor):
    """`SeededChoice` inside `transformers.generate`, whose greedy search then draws a sample."""

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float = 1.0) -> None:
        self._arguments = (list(seeds), temperature, top_p)
        self._choice: SeededChoice | None = None

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.Tensor:
        """Return scores [B, V] of which the greatest is drawn."""
        if self._choice is None:
            self._choice = SeededChoice(*self._arguments, scores.device)
        return self._choice.noisy(scores)


def _keep_nucleus(scores_BV: torch.Tensor, top_p: float) -> torch.Tensor:
    sorted_BV, order_BV = scores_BV.sort(dim=-1, descending=True)
    before_BV = sorted_BV.softmax(-1).cumsum(-1) - sorted_BV.softmax(-1)
    drop_BV = torch.zeros_like(before_BV, dtype=torch.bool).scatter(
        -1, order_BV, before_BV >= top_p
    )
    return scores_BV.masked_fill(drop_BV, -torch.inf)
