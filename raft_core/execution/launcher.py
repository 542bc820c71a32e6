"""Training in several processes of one machine, one a device.

Every process runs the same command; the environment (RANK, WORLD_SIZE) tells it which one it is.
They find each other through files of a folder that no other user can open. torchrun's agent would
listen for them on every interface, and unpickle what it is sent.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from raft_core.errors import StageError

MEETING = "RAFT_PROCESSES"  # names the file through which the processes meet
# Both libraries listen on the interface that is named here, by default on one that others reach.
ON_LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
TIMEOUT = timedelta(minutes=30)


def is_launched() -> bool:
    """Whether this process is one of several, or the only one, that a launcher started."""
    return "RANK" in os.environ


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run `python -m raft_core ARGUMENTS` in so many processes; the first failure ends them all.

    Returns:
        The exit code: that of the first process that failed, or 0.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, start_processes

    with TemporaryDirectory(prefix="raft-processes-") as folder:
        meeting = Path(folder) / "meeting"
        context = start_processes(
            "training",
            sys.executable,
            args=dict.fromkeys(range(processes), ("-m", "raft_core", *arguments)),
            envs={number: environment(number, processes, meeting) for number in range(processes)},
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            result = context.wait()
        finally:  # a signal raises here: it ends the processes too
            context.close()
    failures = result.failures.values() if result is not None else ()
    if not failures:
        return 0
    code = min(failures, key=lambda failure: failure.timestamp).exitcode
    if code < 0:
        print(f"error: a training process was ended by {signal.Signals(-code).name}")
        return StageError.exit_code
    return code or StageError.exit_code


def environment(number: int, processes: int, meeting: Path) -> dict[str, str]:
    """Return what tells a process which one it is and where it meets the others.

    The address is what libraries ask for before they see that the processes have met.
    """
    return {
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "0",
        MEETING: str(meeting),
        **ON_LOOPBACK,
    }


def meet() -> None:
    """Join the other processes of this training, before any library would do it by a port."""
    if MEETING not in os.environ:
        return
    import torch
    from torch import distributed

    on_gpus = torch.cuda.is_available()
    if on_gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpus else "gloo",
        store=distributed.FileStore(os.environ[MEETING], world_size()),
        rank=rank(),
        world_size=world_size(),
        timeout=TIMEOUT,
    )
