"""Cache what the frozen teacher computes of each row before z, for all epochs.

The teacher's prompt of a row (reference and question, eq. 7) never changes and neither does the
teacher. So the keys and values of all its tokens but the last are kept, and a training step reads
no more than that last token and z.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from raft_core.distill.batches.packed_attention import Packing, Prefix, packed_inputs
from raft_core.distill.teacher import Teacher


class PrefixCache:
    """Keys and values by prompt, in the host's memory, up to `budget` bytes."""

    def __init__(self, budget: int, device: torch.device) -> None:
        self._budget, self._device = budget, device
        self._kept: dict[tuple[int, ...], Prefix] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def fill(self, teacher: Teacher, prompts: Iterable[Sequence[int]], batch_size: int) -> None:
        """Read all prompts that fit the budget, the shortest first.

        The order is fixed, so that a resumed run computes the same bytes.
        """
        wanted = sorted({tuple(p) for p in prompts if len(p) > 1}, key=lambda p: (len(p), p))
        with teacher.active() as model:
            for start in range(0, len(wanted), batch_size):
                batch = wanted[start : start + batch_size]
                if self._kept and self.bytes + self._expected(batch) > self._budget:
                    return
                read = self._read(model, [list(prompt[:-1]) for prompt in batch])
                size = sum(part.nbytes for prefix in read for part in prefix)
                if self.bytes + size > self._budget:
                    return
                self._kept.update(zip(batch, read, strict=True))
                self.bytes += size

    def find(self, prompt: Sequence[int]) -> Prefix | None:
        """Return the keys and values of the prompt without its last token, if they are kept."""
        return self._kept.get(tuple(prompt))

    def _expected(self, prompts: Sequence[tuple[int, ...]]) -> int:
        tokens = sum(len(prompt) - 1 for prompt in self._kept)
        return self.bytes // tokens * sum(len(prompt) - 1 for prompt in prompts)

    def _read(self, model: torch.nn.Module, rows: list[list[int]]) -> list[Prefix]:
        packing = Packing([len(row) for row in rows], self._device, keep=True)
        model(**packed_inputs(rows, [range(0)] * len(rows), packing))
        assert packing.kept is not None
        layers = [packing.kept[layer] for layer in sorted(packing.kept)]
        parts = [_on_host(layer).split(packing.lengths, dim=2) for layer in layers]
        return [tuple(layer[row] for layer in parts) for row in range(len(rows))]


def _on_host(tensor: torch.Tensor) -> torch.Tensor:
    """Copy a tensor to memory that a GPU can fetch from while it computes."""
    if tensor.device.type == "cpu":
        return tensor
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor)
