"""Checkpoints of a training: written, sealed, verified, pruned.

A checkpoint counts once its own file, written last and in one step, lists all others with their
digests. A torn or altered one is skipped for the one before it.
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
    """Return the newest intact checkpoint, if any; remove the damaged ones that are newer.

    `note` gets a line for each that is removed: `prune` would keep them in place of good ones with
    smaller numbers.
    """
    for checkpoint in reversed(checkpoints_in(folder)):
        if is_whole(checkpoint):
            return checkpoint
        note(f"distill: {checkpoint.name} is torn or altered and is left out")
        remove(checkpoint)
    return None


def checkpoints_in(folder: Path) -> list[Path]:
    """List the checkpoints of a folder by step; ignore all else in it, such as a copy by hand."""
    found = (p for p in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", p.name))
    return sorted(found, key=step_of)


def is_whole(checkpoint: Path) -> bool:
    """Return whether every file still has the digest that `seal` recorded."""
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
    for place in (checkpoint, checkpoint.parent):  # a rename is durable once its folder is flushed
        flush(place)


def prune(folder: Path) -> None:
    """Remove all checkpoints but the newest two."""
    for checkpoint in checkpoints_in(folder)[:-KEPT]:
        remove(checkpoint)


def remove(checkpoint: Path) -> None:
    """Delete a checkpoint, its list of files first, so that a half-deleted one never counts."""
    (checkpoint / STATE_FILE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)


def unwritten(folder: Path, step: int, error: Exception) -> str:
    """Remove a checkpoint that could not be written; return a message that says what is left."""
    shutil.rmtree(folder / f"checkpoint-{step}", ignore_errors=True)
    last = last_good_checkpoint(folder)
    kept = f"{last.name} is kept and the next run goes on from it" if last else "there is none yet"
    return (
        f"the checkpoint of step {step} could not be written ({short(error)}; "
        f"{free_space(folder)}): {kept}. Free some space, and run again"
    )


def step_of(checkpoint: Path) -> int:
    """Return the optimizer step in a checkpoint's name."""
    return int(checkpoint.name.split("-")[1])


def flush(path: Path) -> None:
    """Wait until a file, or the list of a folder's entries, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load_state(checkpoint: Path) -> dict[str, Any]:
    """Return the state that `seal` stored."""
    state: dict[str, Any] = json.loads((checkpoint / STATE_FILE).read_text())["state"]
    return state


def logged_before(checkpoint: Path) -> list[dict[str, float]]:
    """Return the lines that the training had logged when the checkpoint was written."""
    state = json.loads((checkpoint / TRAINER_STATE_FILE).read_text())
    lines: list[dict[str, float]] = state["log_history"]
    return lines
