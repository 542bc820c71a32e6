"""Who hears what becomes of a run's stages: the terminal, the tracking server, a counter."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from raft_core.store.artifacts import ArtifactRef, StageSpec


class Listener:
    """Hear of stages and do nothing; a listener overrides what it wants to know.

    Stages run side by side, so calls come from several threads. `label` is what people call the
    stage, `spec` tells it from all others. It is entered when the run begins and left when all its
    processes have ended.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Hear of the run's end, and of the error that ends it."""

    def note(self, text: str) -> None:
        """Hear something about the run as a whole."""

    def cached(self, label: str, spec: StageSpec, found: ArtifactRef) -> None:
        """Hear that the store holds the artifact already."""

    def started(self, label: str, spec: StageSpec) -> None:
        """Hear that the stage's process is about to start on this machine."""

    def heard(self, label: str, spec: StageSpec, event: Mapping[str, Any]) -> None:
        """Hear an event that the stage wrote: progress, metrics, generation or a note."""

    def ended(self, label: str, spec: StageSpec, made: ArtifactRef, seconds: float) -> None:
        """Hear that the artifact is made, here or elsewhere."""

    def failed(self, label: str, spec: StageSpec, error: BaseException) -> None:
        """Hear that it is not made: the stage failed, or the run ends."""
