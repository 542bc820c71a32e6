"""FAPM's score and selection by hand."""

from __future__ import annotations

import pytest
import torch

from raft_core.distill.prune import pruned

BASE = torch.tensor([[1.0, 2.0], [4.0, 1.0]])  # mean |W0| = 2


def test_pruned_scores_by_hand() -> None:
    # |dW| - 2 |dW| / |W0|: 0.5 - 1 = -0.5; 0.5 - 0.5 = 0; 0.5 - 0.25 = 0.25; 0.1 - 0.2 = -0.1
    weight = BASE + torch.tensor([[0.5, -0.5], [0.5, 0.1]])
    half = pruned(weight, BASE, 0.5)
    assert half.tolist() == [[1.0, 1.5], [4.5, 1.0]]


def test_pruned_no_sparsity_keeps_every_change() -> None:
    weight = BASE + 1
    assert torch.equal(pruned(weight, BASE, 0.0), weight)


def test_pruned_zero_base_weight_goes_first() -> None:
    base = torch.tensor([[0.0, 1.0]])
    assert pruned(base + 5.0, base, 0.5).tolist() == [[0.0, 6.0]]


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
def test_pruned_share_of_changes_that_is_left(sparsity: float) -> None:
    rng = torch.Generator().manual_seed(0)
    base = torch.randn(40, 50, generator=rng)
    weight = base + 0.01 * torch.randn(40, 50, generator=rng)
    left = (pruned(weight, base, sparsity) != base).float().mean().item()
    assert left == pytest.approx(1 - sparsity, abs=1e-3)


def test_pruned_bfloat16_weights_are_subtracted_in_float32() -> None:
    base = torch.tensor([[1.0, 100.0]], dtype=torch.bfloat16)
    weight = torch.tensor([[1.0078125, 100.0]], dtype=torch.bfloat16)
    result = pruned(weight, base, 0.5)
    assert result.dtype == torch.float32
    assert result.tolist() == [[1.0, 100.0]]
