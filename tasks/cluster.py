"""Shards of rewriting and fusing on a Ray cluster, whose workers share the store."""

from __future__ import annotations

import threading
from collections.abc import Callable

from raft_core.config.runtime import RuntimeConfig
from raft_core.errors import StageError, first_line
from raft_core.execution.execute import Remote
from raft_core.store.artifacts import StageSpec
from tasks.pools import addressed
from tasks.tracking import Tracker

SHARDED = ("rewrite", "fuse")


def remote_on_ray(runtime: RuntimeConfig, tracker: Tracker) -> Callable[[StageSpec], Remote | None]:
    """Return what tells where a stage runs: its shards on the cluster, all else here.

    A worker of the cluster makes an artifact as one of another pool does (`tasks/remote.py`).
    """

    connecting = threading.Lock()

    def run(spec: StageSpec, label: str) -> None:
        import ray

        from tasks import remote

        with connecting:  # shards start side by side, and Ray's own check of it races
            ray.init(address=runtime.ray_address, ignore_reinit_error=True, log_to_driver=False)
        made = ray.remote(remote.make).remote(addressed(spec, runtime), label, tracker.run_id)
        try:
            ray.get(made)
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", error)
            raise StageError(f"stage '{label}' on Ray: {first_line(cause)}") from None

    place = Remote("the Ray cluster", run)
    return lambda spec: place if spec.stage in SHARDED else None
