"""The frozen base model: a copy of its own, or the student with its adapter disabled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch


class Teacher(Protocol):
    """Gives a context in which a model computes as the base did before any training."""

    model: Any

    def active(self) -> Any:
        """Return a context manager that yields the model, without gradients."""
        ...


class FrozenCopy:
    """A second model in memory, used where the student's own weights are trained."""

    def __init__(self, model: Any) -> None:
        self.model = model.eval().requires_grad_(False)

    @contextmanager
    def active(self) -> Iterator[Any]:
        """Yield the copy, without gradients."""
        with torch.no_grad():
            yield self.model


class DisabledAdapter:
    """The student without its adapter: the base's weights are never trained."""

    def __init__(self, student: Any) -> None:
        self.model = student

    @contextmanager
    def active(self) -> Iterator[Any]:
        """Yield the student in evaluation mode with its adapter disabled, then restore both."""
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), self.model.disable_adapter():
                yield self.model
        finally:
            self.model.train(training)
