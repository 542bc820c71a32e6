"""Training in several processes of one machine: torchrun's agent starts them, one a device.

Every process runs the same command; the environment (RANK, WORLD_SIZE) tells it which one it is.
"""

from __future__ import annotations

import os
import signal
import sys
import uuid
from collections.abc import Sequence

from raft_core.errors import StageError

LOOPBACK = "127.0.0.1"


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
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # They talk over gloo or NCCL on this machine alone.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint=f"{LOOPBACK}:0",
        rdzv_configs={"is_host": True},
        local_addr=LOOPBACK,
        max_restarts=0,
        monitor_interval=0.5,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "raft_core", *arguments)
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        if code < 0:
            print(f"error: a training process was ended by {signal.Signals(-code).name}")
            return StageError.exit_code
        return code or StageError.exit_code
    return 0
