"""Batch the rows of one forward pass, grouped by the loss that they bear.

A batch holds the answers to be learned and the rollouts to be distilled on, one group after the
other: packed without padding where the model can read them so, else padded together. A packed
question is read once, for its answer and its rollout. Dimensions as in `losses`; C is the padded
width of the completions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from raft_core.distill.batches.packed_attention import Packing, Start, packed_inputs
from raft_core.distill.batches.prefix_cache import PrefixCache
from raft_core.distill.batches.views import RowView, pad_rows

SFT, KL, REHEARSAL = "sft", "kl", "rehearsal"


def ending(loss: str) -> str:
    """Return the suffix of the names under which a distillation loss is logged."""
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
    """Collate the indices of one part of a step into `rows`, [B]."""
    return {"rows": torch.tensor(list(indices))}


@dataclass(frozen=True, slots=True)
class StepSize:
    """Counts of one optimizer step over all processes and accumulated parts."""

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
        """The student's prompt of each row."""
        return [row.prompt_ids for row in self.rows]


@dataclass(frozen=True, slots=True)
class Scored:
    """A group's tokens that bear its loss.

    `hidden_ND` are the hidden states that predict them, `labels_N` their ids, and `counts_B` how
    many there are in each row.
    """

    group: Group
    hidden_ND: torch.Tensor
    labels_N: torch.Tensor
    counts_B: torch.Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Several groups in one forward pass, and how many scored tokens each row of them has.

    `chosen_BC` marks the scored tokens of a padded pass; a packed pass computes hidden states of no
    other position.
    """

    groups: Sequence[Group]
    model_inputs: dict[str, Any]
    labels_N: torch.Tensor
    counts_B: torch.Tensor
    chosen_BC: torch.Tensor | None = None

    def scored(self, hidden_BCD: torch.Tensor) -> Iterator[Scored]:
        """Yield each group with the hidden states that the pass has computed for it."""
        chosen = self.chosen_BC
        hidden_ND = hidden_BCD[0] if chosen is None else hidden_BCD[:, :-1][chosen]
        rows = self.counts_B.split([len(group.rows) for group in self.groups])
        tokens = [int(counts.sum()) for counts in rows]
        parts = zip(hidden_ND.split(tokens), self.labels_N.split(tokens), rows, strict=True)
        for group, (hidden, labels, counts) in zip(self.groups, parts, strict=True):
            yield Scored(group, hidden, labels, counts)


def shared_starts(prompts: Sequence[list[int]]) -> list[Start | None]:
    """Find rows whose whole prompt an earlier row has; return that row and the length, or None."""
    first: dict[tuple[int, ...], int] = {}
    owners = [first.setdefault(tuple(ids), row) for row, ids in enumerate(prompts)]
    return [
        None if owner == row else (owner, len(prompts[row])) for row, owner in enumerate(owners)
    ]


@dataclass(frozen=True, slots=True)
class Batching:
    """How rows become tensors; `skip_first` tokens of a rollout bear no loss.

    Packed where the model can (`packs`), else padded. Of a packed row that the teacher has read
    before (`prefixes`) it reads the last token of the prompt and what follows.
    """

    pad_id: int
    skip_first: int
    device: torch.device
    packed: bool = False
    prefixes: PrefixCache | None = None

    def student(self, groups: Sequence[Group]) -> Batch:
        """Return the batch that the student reads: its prompts and the completions."""
        return self._batch(groups, [ids for group in groups for ids in group.prompts], None)

    def teacher(self, groups: Sequence[Group]) -> Batch:
        """Return the batch that the teacher reads: its own prompts and the same completions."""
        prompts = [ids for group in groups for ids in group.teacher_prompts]
        return self._batch(groups, prompts, self.prefixes)

    def _batch(
        self, groups: Sequence[Group], prompts: list[list[int]], known: PrefixCache | None
    ) -> Batch:
        completions = [ids for group in groups for ids in group.completions]
        skip = [0 if group.loss == SFT else self.skip_first for group in groups for _ in group.rows]
        skip = [min(s, len(ids)) for s, ids in zip(skip, completions, strict=True)]
        if not self.packed:
            padded = pad_rows(prompts, completions, self.pad_id, self.device, skip)
            chosen_BC = padded.mask_BC.bool()
            counts_B, labels_N = chosen_BC.sum(-1), padded.labels_BC[chosen_BC]
            return Batch(groups, padded.model_inputs, labels_N, counts_B, chosen_BC)
        before = [known.find(prompt) if known else None for prompt in prompts]
        heads = [p[-1:] if b else p for p, b in zip(prompts, before, strict=True)]
        # The last token of a completion predicts nothing that bears a loss.
        rows = [head + ids[:-1] for head, ids in zip(heads, completions, strict=True)]
        spans = [
            range(len(head) - 1 + skipped, len(head) - 1 + len(ids))
            for head, ids, skipped in zip(heads, completions, skip, strict=True)
        ]
        labels = [i for ids, skipped in zip(completions, skip, strict=True) for i in ids[skipped:]]
        starts = None if known else shared_starts(prompts)
        packing = Packing([len(row) for row in rows], self.device, before, starts=starts)
        return Batch(
            groups,
            packed_inputs(rows, spans, packing),
            torch.tensor(labels, device=self.device, dtype=torch.long),
            torch.tensor([len(span) for span in spans], device=self.device),
        )
