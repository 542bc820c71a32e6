"""General prompts for self-rehearsal; which of them a step takes depends on the step alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from raft_core.data.sources import DataSource, checked_text, read_rows
from raft_core.distill.batches.views import RowView, prompt_view
from raft_core.distill.config import DistillConfig
from raft_core.errors import InputError


def load_prompts(source: DataSource, tokenizer: Any, config: DistillConfig) -> list[RowView]:
    """Read all prompts that fit the budget, as views in which teacher and student read the same.

    Raises:
        InputError: none fits.
    """
    views = [
        prompt_view(f"rehearsal {number}", prompt_of(where, row, source), tokenizer, config)
        for number, (where, row) in enumerate(
            read_rows(source, (source.columns.question, "prompt"))
        )
    ]
    fitting = [view for view in views if view is not None]
    if not fitting:
        raise InputError(
            f"rehearsal.data '{source.path}': no prompt fits "
            f"distill.max_prompt_tokens={config.max_prompt_tokens}"
        )
    return fitting


def prompt_of(where: str, row: dict[str, Any], source: DataSource) -> str:
    """Return a row's question, or its `prompt` where it has no question."""
    has_question = source.columns.question in row or "prompt" not in row
    return checked_text(where, row, source.columns.question if has_question else "prompt")


class PromptCycle:
    """Shuffled passes over the prompts, addressed by number, so that there is no state to save."""

    def __init__(self, views: Sequence[RowView], seed: int) -> None:
        self._views, self._seed = list(views), seed

    def take(self, start: int, count: int) -> list[RowView]:
        """Return the views at the places start, start + 1, ... of the endless sequence."""
        return [self._at(place) for place in range(start, start + count)]

    def _at(self, place: int) -> RowView:
        passes, offset = divmod(place, len(self._views))
        order = list(range(len(self._views)))
        random.Random(f"{self._seed} rehearsal {passes}").shuffle(order)
        return self._views[order[offset]]
