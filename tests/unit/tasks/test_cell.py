"""A cell of a study: what its failure is to the study."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from raft_core.errors import StageError, UnwellError
from raft_core.evaluation.study.config import Cell
from tasks import cell as cell_module
from tasks.cell import measure, measure_rate

CELL = Cell(student="llama", domain="law", seed=0, row="raft")


class Context:
    """What a cell needs of a run, without a run."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.notes: list[str] = []

    def tell(self, what: str, text: str) -> None:
        assert what == "note"
        self.notes.append(text)

    @contextmanager
    def noting_failure(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.failures.append(error)
            raise


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> Context:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(cell_module, "measured", fail)
    return Context()


def test_rate_at_which_training_ended_itself_is_told_and_not_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = failing(monkeypatch, UnwellError("rollouts repeat themselves"))
    assert measure_rate.fn(context, None, CELL, "rate 4.8e-03") is None
    assert context.failures == []
    assert context.notes == ["rate 4.8e-03 is not chosen: rollouts repeat themselves"]


@pytest.mark.parametrize("task", [measure, measure_rate])
def test_cell_that_failed_otherwise_ends_the_study(
    task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = failing(monkeypatch, StageError("the disk is full"))
    with pytest.raises(StageError):
        task.fn(context, None, CELL, "cell")
    assert len(context.failures) == 1


def test_chosen_cell_that_ended_itself_ends_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rate was well on validation rows: nobody knows a better one."""
    context = failing(monkeypatch, UnwellError("rollouts repeat themselves"))
    with pytest.raises(UnwellError):
        measure.fn(context, None, CELL, "cell")
    assert len(context.failures) == 1
