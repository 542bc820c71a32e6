"""FSDP: several processes hold parts of the weights, gradients and optimizer state.

`transformers` shards the student by its decoder layers; the frozen teacher is sharded likewise.
"""

from __future__ import annotations

from typing import Any

import torch

from raft_core.config.runtime import RuntimeConfig
from raft_core.distill.config import DistillStage
from raft_core.execution.launcher import world_size


def shards(runtime: RuntimeConfig) -> bool:
    """Return whether this process is one of several that split one student."""
    return world_size() > 1 and runtime.training.shard


def fsdp_arguments(config: DistillStage, runtime: RuntimeConfig) -> dict[str, Any]:
    """Return the FSDP fields of `TrainingArguments`; none where nothing is split."""
    if not shards(runtime):
        return {}
    plugin = {
        "version": 2,
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "state_dict_type": "SHARDED_STATE_DICT",
        # The trainer's own switch recomputes a layer outside of its FSDP wrapper.
        "activation_checkpointing": config.distill.gradient_checkpointing,
    }
    return {"fsdp": True, "fsdp_config": plugin}


def sharded(model: Any) -> Any:
    """Split a model over the processes layer by layer; every process has to call this."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(next(model.parameters()).device.type, (world_size(),))
    for layer in _decoder_layers(model):
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def here(weight: torch.Tensor) -> torch.Tensor:
    """Return the part of a weight that this process holds: all of it where nothing is split."""
    from torch.distributed.tensor import DTensor

    return weight.to_local() if isinstance(weight, DTensor) else weight


def _decoder_layers(model: Any) -> list[torch.nn.Module]:
    names = set(model._no_split_modules or ())
    return [module for module in model.modules() if type(module).__name__ in names]
