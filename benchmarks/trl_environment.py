"""Make an environment for TRL, once: its pins are not the project's.

What both environments have is at the same version, so that the trainers are compared and not their
libraries.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from raft_core.config.base import local_path

ROOT = Path(__file__).resolve().parent.parent
TRL = "trl==1.16.0"
SHARED = ("transformers", "accelerate", "datasets", "peft", "tokenizers", "safetensors")
PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")


class NotInstalled(Exception):
    """Raised where TRL's environment cannot be made here; says why in one line."""


def bench_folder() -> Path:
    """Return where benchmarks keep what they make once."""
    return local_path(os.environ.get("RAFT_HOME", ".raft"), "RAFT_HOME").resolve() / "bench"


def pins() -> list[str]:
    """Return what is installed after torch: TRL, and what it shares with RAFT as RAFT pins it."""
    locked = (ROOT / "requirements" / "cpu.lock").read_text()
    found = {name: re.search(rf"^{name}==\S+", locked, re.MULTILINE) for name in SHARED}
    return [TRL, *(match[0] for match in found.values() if match)]


def torch_pin() -> str:
    """Return this environment's torch, without the mark of its build."""
    import torch

    return f"torch=={torch.__version__.partition('+')[0]}"


def trl_python() -> Path:
    """Return the interpreter of TRL's environment, which is made if missing.

    Raises:
        NotInstalled: without the network, for instance.
    """
    folder = bench_folder() / "trl-1.16"
    python, mark, wanted = (
        folder / "bin" / "python",
        folder / "installed.txt",
        [torch_pin(), *pins()],
    )
    if mark.is_file() and mark.read_text().split() == wanted:
        return python
    print(f"installing {TRL} below {folder} (once)", file=sys.stderr)
    steps = [
        [sys.executable, "-m", "venv", str(folder)],
        # First and alone: so the build that this machine has at hand is taken.
        [str(python), *PIP, wanted[0]],
        [str(python), *PIP, *wanted],
    ]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode != 0:
            said = [line for line in done.stderr.splitlines() if "ERROR" in line]
            raise NotInstalled((said or ["it cannot be installed"])[-1].removeprefix("ERROR: "))
    mark.write_text("\n".join(wanted))
    return python
