"""Whose logits are taken for those of the output layer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from raft_core.distill.loss.output_layer import require_plain_output
from raft_core.errors import InputError

MODEL = SimpleNamespace(config=SimpleNamespace(model_type="capped"))


@pytest.mark.parametrize("losses", [[1.0, 2.0], [float("nan"), 2.0], [float("inf"), 1.0]])
def test_plain_output_is_taken_even_where_a_loss_is_no_number(losses: list[float]) -> None:
    require_plain_output(torch.tensor(losses), torch.tensor(losses), MODEL)


@pytest.mark.parametrize("losses", [[1.0, 2.0 + 1e-6], [1.0, float("nan")], [1.0]])
def test_plain_output_other_than_computed_is_refused(losses: list[float]) -> None:
    with pytest.raises(InputError, match="'capped' changes its logits"):
        require_plain_output(torch.tensor(losses), torch.tensor([1.0, 2.0]), MODEL)
