"""A stage's run on the tracking server, without the stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from raft_core.store.artifacts import StageSpec
from tasks.tracking import StageTracker, Tracker


@contextmanager
def stage_of(
    tracker: Tracker, label: str, spec: StageSpec, *, cached: bool = False
) -> Iterator[StageTracker]:
    """Open the run of a stage; it ends with the block, and with its error."""
    stage = tracker._stage(label, spec, cached=cached)
    try:
        yield stage
    except BaseException as error:
        stage.end(error)
        raise
    stage.end()
