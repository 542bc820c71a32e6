"""The rows of one forward pass, grouped by the loss that they bear.

A batch holds the answers to be learned and the rollouts to be distilled on, one group after the
other, padded together. Dimensions as in `losses`; C is the padded width of the completions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from raft_core.distill.views import Padded, RowView, pad_rows

SFT, KL, REHEARSAL = "sft", "kl", "rehearsal"


def ending(loss: str) -> str:
    """Of the names under which a distillation loss is logged."""
    return "" if loss == KL else f"_{loss}"


class RowIndices(torch.utils.data.Dataset):
    """The trainer's dataset: indices into the list of views."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> int:
        return index


def collate(indices: Sequence[int]) -> dict[str, torch.Tensor]:
    return {"rows": torch.tensor(list(indices))}


@dataclass(frozen=True, slots=True)
class StepSize:
    """What one optimizer step holds over all processes and accumulated parts."""

    answer_tokens: int
    rows: int
    parts: int


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one loss: what follows each prompt, and what the teacher reads before it."""

    loss: str
    rows: list[RowView]
    completions: list[list[int]]
    teacher_prompts: list[list[int]]

    @property
    def prompts(self) -> list[list[int]]:
        return [row.prompt_ids for row in self.rows]


@dataclass(frozen=True, slots=True)
class Batch:
    """Several groups as one padded batch."""

    groups: Sequence[Group]
    padded: Padded

    def scored(
        self, hidden_BCD: torch.Tensor
    ) -> Iterator[tuple[Group, torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Each group with the hidden states [N, D] that predict its scored tokens, those tokens'
        ids [N], and its mask [B, C].
        """
        start = 0
        for group in self.groups:
            rows = slice(start, start + len(group.rows))
            start = rows.stop
            mask_BC = self.padded.mask_BC[rows]
            chosen_BC = mask_BC.bool()
            hidden_ND = hidden_BCD[rows, :-1][chosen_BC]
            yield group, hidden_ND, self.padded.labels_BC[rows][chosen_BC], mask_BC


@dataclass(frozen=True, slots=True)
class Padding:
    """How rows become tensors; `skip_first` tokens of a rollout bear no loss."""

    pad_id: int
    skip_first: int
    device: torch.device

    def student(self, groups: Sequence[Group]) -> Batch:
        """What the student reads: its prompts and the completions."""
        return self._batch(groups, [ids for group in groups for ids in group.prompts])

    def teacher(self, groups: Sequence[Group]) -> Batch:
        """What the teacher reads: its own prompts and the same completions."""
        return self._batch(groups, [ids for group in groups for ids in group.teacher_prompts])

    def _batch(self, groups: Sequence[Group], prompts: list[list[int]]) -> Batch:
        completions = [ids for group in groups for ids in group.completions]
        skip = [0 if group.loss == SFT else self.skip_first for group in groups for _ in group.rows]
        return Batch(groups, pad_rows(prompts, completions, self.pad_id, self.device, skip))
