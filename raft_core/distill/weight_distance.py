"""How far training moved the weights: ||W - W0|| / ||W0|| per matrix, in float32."""

from __future__ import annotations

import torch


@torch.no_grad()
def relative_distances(model: torch.nn.Module, base: torch.nn.Module) -> dict[str, float]:
    """Return the relative L2 distance of each parameter by name; zero bases are left out."""
    before = dict(base.named_parameters())
    distances = {}
    for name, weight in model.named_parameters():
        start = before[name].float()
        norm = start.norm().item()
        if norm > 0:
            distances[name] = (weight.float().to(start.device) - start).norm().item() / norm
    return distances
