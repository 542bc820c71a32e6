"""What this machine has: its GPU by nvidia-smi, memory and disk. Imports no torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from raft_core.config.runtime import RuntimeConfig
from raft_core.cost.rates import Machine, machine_of

SMI = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True, slots=True)
class Device:
    """Where the run's stages would compute; `here` is False for a GPU that this machine lacks."""

    kind: str
    machine: Machine
    memory: int
    here: bool
    free_disk: int

    def told(self) -> str:
        """One line for people."""
        away = "" if self.here else ", which is not this machine's: assumed"
        return f"{self.machine.name} of {self.memory / 2**30:.0f} GiB{away}"


def device_of(runtime: RuntimeConfig) -> Device:
    """The device that the settings name; `auto` is a GPU where there is one."""
    name, memory = first_gpu()
    kind = runtime.device
    if kind == "auto":
        kind = "cpu" if name is None else "cuda"
    machine = machine_of(kind, name, memory)
    total = host_memory() if kind == "cpu" else machine.memory or host_memory()
    here = kind == "cpu" or name is not None
    return Device(kind, machine, total, here, free_disk(runtime.home_folder))


def first_gpu() -> tuple[str | None, int | None]:
    """Name and bytes of the first visible GPU, or None for both."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible == "" or shutil.which(SMI[0]) is None:
        return None, None
    try:
        told = subprocess.run(SMI, capture_output=True, text=True, timeout=20, check=True).stdout
        name, _, mebibytes = told.strip().splitlines()[0].rpartition(",")
        return name.strip(), int(mebibytes) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None, None


def host_memory() -> int:
    """Bytes of this machine, or of the container around this process."""
    import psutil

    limits = [psutil.virtual_memory().total]
    for file in map(Path, CGROUP_LIMITS):
        try:
            limits.append(int(file.read_text()))
        except (OSError, ValueError):
            continue
    return min(limits)


def free_disk(folder: Path) -> int:
    """Free bytes where the folder is, or would be made."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return shutil.disk_usage(there).free
