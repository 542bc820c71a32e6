"""Which checkpoints are left out, and which are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from raft_core.distill.checkpoints import last_good_checkpoint, prune, seal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (20, 30):
        sealed(tmp_path, step)
    return tmp_path


def sealed(folder: Path, step: int) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir()
    (checkpoint / "weights").write_text(str(step))
    seal(checkpoint, {})
    return checkpoint


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_prune_after_damaged_checkpoints_keeps_the_good_one_of_a_smaller_step(folder: Path) -> None:
    for checkpoint in folder.iterdir():
        (checkpoint / "weights").write_text("altered")
    notes: list[str] = []
    assert last_good_checkpoint(folder, note=notes.append) is None
    assert [note.split()[1] for note in notes] == ["checkpoint-30", "checkpoint-20"]
    good = sealed(folder, 10)
    prune(folder)
    assert last_good_checkpoint(folder) == good


def test_prune_keeps_the_newest_two(folder: Path) -> None:
    sealed(folder, 100)
    prune(folder)
    assert names(folder) == ["checkpoint-100", "checkpoint-30"]


def test_checkpoint_copies_by_hand_are_neither_read_nor_removed(folder: Path) -> None:
    (folder / "checkpoint-30.bak").mkdir()
    (folder / "checkpoint-").mkdir()
    sealed(folder, 40)
    assert last_good_checkpoint(folder) == folder / "checkpoint-40"
    prune(folder)
    assert names(folder) == ["checkpoint-", "checkpoint-30", "checkpoint-30.bak", "checkpoint-40"]
