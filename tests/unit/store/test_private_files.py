"""Who may read what is written; each case in a process of its own, whose mask it changes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

WRITES = """
import os, subprocess, sys
from pathlib import Path
from raft_core.store.private_files import keep_private, with_users_mask
os.umask(0o022)
home, out = Path(sys.argv[1]), Path(sys.argv[2])
keep_private(home)
home.mkdir(exist_ok=True)
(home / "rows.jsonl").touch()
subprocess.run(["touch", str(home / "log.txt")], check=True)
with with_users_mask():
    out.touch()
(home / "after").touch()
"""


def modes_after(home: Path, out: Path, **variables: str) -> dict[str, int]:
    """Permission bits by name, of the home itself under its own."""
    done = subprocess.run(
        [sys.executable, "-c", WRITES, str(home), str(out)],
        env=os.environ | variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return {path.name: mode_of(path) for path in (home, out, *home.iterdir())}


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_home_and_its_files_are_the_user_s_alone_and_what_was_asked_for_is_not(
    tmp_path: Path,
) -> None:
    assert modes_after(tmp_path / "home", tmp_path / "out.jsonl") == {
        "home": 0o700,
        "rows.jsonl": 0o600,
        "log.txt": 0o600,
        "after": 0o600,
        "out.jsonl": 0o644,
    }


def test_home_that_others_could_look_into_is_closed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)
    assert modes_after(home, tmp_path / "out")["home"] == 0o700


def test_folder_of_everybody_stays_as_it_is(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o1777)
    assert modes_after(home, tmp_path / "out")["home"] == 0o1777


def test_mask_of_a_group_shares_the_home_with_it_alone(tmp_path: Path) -> None:
    modes = modes_after(tmp_path / "home", tmp_path / "out", RAFT_UMASK="007")
    assert (modes["home"], modes["rows.jsonl"]) == (0o770, 0o660)


@pytest.mark.parametrize("given", ["rw", "777", "-7", "0x7", "100"])
def test_mask_that_is_none_is_one_error(given: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "artifacts", "ls"],
        env=os.environ | {"RAFT_UMASK": given},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: RAFT_UMASK='{given}': give a mask from 000 to 077")
