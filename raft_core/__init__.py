"""RAFT: data refinement and adaptive distillation for domain fine-tuning with little forgetting.

    import raft_core

    settings = raft_core.load_settings("mini", "law")
    run = raft_core.run(settings)
    print(run.page)
    run.artifact("fuse")

The core knows nothing of Prefect or MLflow. Every stage is a pure function from a resolved
specification and input artifacts to an artifact folder: `python -m raft_core STAGE --spec ... `.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from raft_core.version import __version__

if TYPE_CHECKING:
    from raft_core.app.run import Run, run
    from raft_core.app.settings import Settings, load_settings

__all__ = ["Run", "Settings", "__version__", "load_settings", "run"]
_MODULES = {
    "Run": "raft_core.app.run",
    "run": "raft_core.app.run",
    "Settings": "raft_core.app.settings",
    "load_settings": "raft_core.app.settings",
}


def __getattr__(name: str) -> Any:
    """Import what is public when it is used first, so that importing this costs nothing."""
    if name not in _MODULES:
        raise AttributeError(f"module 'raft_core' has no attribute '{name}'")
    return getattr(import_module(_MODULES[name]), name)
