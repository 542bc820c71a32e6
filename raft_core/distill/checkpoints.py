"""What of a training run lies on the disk, so that it can go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

STATE_FILE = "raft_state.json"


def last_complete_checkpoint(folder: Path, before: int | None = None) -> Path | None:
    """The newest checkpoint that was written to its end.

    `before` leaves out the one of the last step, after which the trainer would not stop at once.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    for checkpoint in reversed(found):
        if before is not None and int(checkpoint.name.split("-")[1]) >= before:
            continue
        if (checkpoint / STATE_FILE).is_file() and (checkpoint / "trainer_state.json").is_file():
            return checkpoint
    return None


def load_state(checkpoint: Path) -> dict[str, Any]:
    """What `RaftTrainer.state_beside_checkpoint` wrote."""
    state: dict[str, Any] = json.loads((checkpoint / STATE_FILE).read_text())
    return state
