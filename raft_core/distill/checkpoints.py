"""What of a training run lies on the disk, so that it can go on.

A checkpoint counts once its own file, written last and in one step, lists all others with their
digests. So a torn or altered one is skipped for the one before it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raft_core.config.base import digest_file
from raft_core.execution.stage import free_space, short

STATE_FILE = "raft_state.json"
TRAINER_STATE_FILE = "trainer_state.json"
KEPT = 2


def last_good_checkpoint(folder: Path, note: Callable[[str], None] = lambda _: None) -> Path | None:
    """The newest checkpoint that holds what was written; `note` is told of those that do not.

    These are removed: `prune` would keep them in place of good ones with smaller numbers.
    """
    for checkpoint in reversed(checkpoints_in(folder)):
        if is_whole(checkpoint):
            return checkpoint
        note(f"distill: {checkpoint.name} is torn or altered and is left out")
        remove(checkpoint)
    return None


def checkpoints_in(folder: Path) -> list[Path]:
    """By step; what else lies there, such as a copy by hand, is nobody's business."""
    found = (p for p in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", p.name))
    return sorted(found, key=step_of)


def is_whole(checkpoint: Path) -> bool:
    """Whether every file is what `seal` saw."""
    try:
        files = json.loads((checkpoint / STATE_FILE).read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return all(
        (checkpoint / name).is_file() and digest_file(checkpoint / name) == digest
        for name, digest in files.items()
    )


def seal(checkpoint: Path, state: dict[str, Any]) -> None:
    """Make a written folder a checkpoint, durably: its files first, then the list of them."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    for path in files:
        flush(path)
    listed = {p.relative_to(checkpoint).as_posix(): digest_file(p) for p in files}
    partial = checkpoint / f"{STATE_FILE}.partial"
    partial.write_text(json.dumps({"files": listed, "state": state}))
    flush(partial)
    partial.rename(checkpoint / STATE_FILE)
    for place in (checkpoint, checkpoint.parent):  # a rename lies in its folder
        flush(place)


def prune(folder: Path) -> None:
    """Remove all checkpoints but the newest two."""
    for checkpoint in checkpoints_in(folder)[:-KEPT]:
        remove(checkpoint)


def remove(checkpoint: Path) -> None:
    """First what makes it count, so that no half of it does."""
    (checkpoint / STATE_FILE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)


def unwritten(folder: Path, step: int, error: Exception) -> str:
    """What to tell where a checkpoint could not be written; removes what there is of it."""
    shutil.rmtree(folder / f"checkpoint-{step}", ignore_errors=True)
    last = last_good_checkpoint(folder)
    kept = f"{last.name} is kept and the next run goes on from it" if last else "there is none yet"
    return (
        f"the checkpoint of step {step} could not be written ({short(error)}; "
        f"{free_space(folder)}): {kept}. Free some space, and run again"
    )


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])


def flush(path: Path) -> None:
    """Wait until a file, or what a folder lists, lies on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load_state(checkpoint: Path) -> dict[str, Any]:
    """What `seal` was given."""
    state: dict[str, Any] = json.loads((checkpoint / STATE_FILE).read_text())["state"]
    return state


def logged_before(checkpoint: Path) -> list[dict[str, float]]:
    """The lines that the training had logged by then."""
    state = json.loads((checkpoint / TRAINER_STATE_FILE).read_text())
    lines: list[dict[str, float]] = state["log_history"]
    return lines
