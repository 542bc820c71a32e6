"""Locks of the store: held by one, freed by the kernel, and no file that outlives its use."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from raft_core.errors import InputError
from raft_core.store import locks as locks_module
from raft_core.store.locks import Locks

HOLDER = """
import sys, time
from pathlib import Path
from raft_core.store.locks import Locks
with Locks(Path(sys.argv[1])).hold("one"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def locks(tmp_path: Path) -> Locks:
    return Locks(tmp_path)


def holder(folder: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, str(folder), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_lock_that_is_held_is_told_of_once_and_waited_for(
    locks: Locks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks_module, "PATIENCE_SECONDS", 0.1)
    process, told = holder(tmp_path, 1.0), []
    with locks.hold("one", on_wait=lambda: told.append(process.poll())) as held:
        assert held
        assert process.wait(5) == 0
    assert told == [None]


def test_lock_that_is_free_soon_is_not_worth_a_word(locks: Locks, tmp_path: Path) -> None:
    process, told = holder(tmp_path, 0.3), []
    with locks.hold("one", on_wait=lambda: told.append(1)):
        pass
    process.wait(5)
    assert told == []


def test_lock_whose_file_was_removed_while_it_was_waited_for_is_held_anew(
    locks: Locks, tmp_path: Path
) -> None:
    """Two that hold the lock of one name hold one file, whoever removed the one before."""
    order: list[str] = []

    def second() -> None:
        with locks.hold("one"):
            order.append("second")

    with locks.hold("one"):
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.2)
        locks.forget("one")
        with locks.hold("one", wait=False) as third:
            # It may come between, but never beside the one that waited.
            order.append("third" if third else "held")
    waiting.join(10)
    assert sorted(order) in (["second", "third"], ["held", "second"])
    assert (tmp_path / "one.lock").is_file()


def test_lock_of_a_file_system_that_wants_writers_and_readers_is_both(
    locks: Locks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS makes record locks of `flock`: a shared one wants to read the file, others to write."""
    modes: list[int] = []
    plain = fcntl.flock

    def flock(handle: object, how: int) -> None:
        modes.append(fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE)  # type: ignore[arg-type]
        plain(handle, how)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", flock)
    for shared in (True, False):
        with locks.hold("one", shared=shared):
            pass
    assert set(modes) == {os.O_RDWR}


def test_lock_that_the_file_system_refuses_is_one_error(
    locks: Locks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(InputError, match="cannot be locked: No locks available"), locks.hold("one"):
        pass
