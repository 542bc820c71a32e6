"""A stage's run in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raft_core.config.runtime import RuntimeConfig
from raft_core.execution.progress import Progress
from raft_core.execution.stage import StageRun

MakeStage = Callable[..., StageRun]


@pytest.fixture
def make_stage(tmp_path: Path) -> MakeStage:
    """A stage's run under a configuration; its artifact is the folder of its name."""

    def make(name: str, config: Any, **inputs: Path) -> StageRun:
        out = tmp_path / name
        out.mkdir()
        events = Progress(tmp_path / f"{name}.events")
        named = {key.replace("_", "."): folder for key, folder in inputs.items()}
        return StageRun(config, named, out, out, RuntimeConfig(), events)

    return make
