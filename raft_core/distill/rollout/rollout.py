"""Draw z ~ p_theta(. | x) (eq. 6): the current student answers, by itself or in a vLLM engine.

Both draw a row's tokens from a seed of its own, so the same seeds give the same rollouts whatever
else shares the batch; the two engines draw different samples.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from raft_core.config.base import ModelRef
from raft_core.config.runtime import RuntimeConfig
from raft_core.distill.batches.views import RowView
from raft_core.engines.base import Sampling, VllmConfig, request_seed
from raft_core.engines.graph_decoding import GraphDecoder, can_capture
from raft_core.engines.transformers import generate_batch

SAMPLES = 32  # rollouts of the last step that are kept for people to read


class RolloutSampler(Protocol):
    """Draws completions from the student as it is now."""

    def sample(
        self, student: Any, prompts: Sequence[list[int]], seeds: Sequence[int]
    ) -> list[list[int]]:
        """Return the token ids that the student appends to each prompt, a stop token included."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """The rows whose rollouts a step needs."""

    step: int
    rows: Sequence[RowView]


class RolloutSource:
    """Rollouts of training rows. A row's is drawn anew after it was used `uses` times.

    What later steps ask for can be drawn together with a step's own: one larger batch takes less
    than several, and those rollouts are then as many steps stale. `last` holds the id, question and
    rollout of the first rows of the last call.
    """

    def __init__(self, sampler: RolloutSampler, stop_ids: Sequence[int], uses: int = 1) -> None:
        self._sampler, self._stop_ids, self._uses = sampler, frozenset(stop_ids), uses
        self._kept: dict[str, tuple[list[int], int]] = {}
        self._ahead: dict[tuple[int, str], list[int]] = {}
        self.last: list[tuple[str, str, list[int]]] = []

    def draw(
        self,
        student: Any,
        rows: Sequence[RowView],
        seed: int,
        step: int,
        coming: Callable[[], Sequence[Asked]] = tuple,
    ) -> list[list[int]]:
        """Return z of every row, seeded by the run, the step and the row.

        `coming` tells what the next steps need; it is called only when something is to be drawn.
        """
        self._ahead = {key: ids for key, ids in self._ahead.items() if key[0] >= step}
        wanted = {row.id: row for row in rows if row.id not in self._kept}
        if any((step, id) not in self._ahead for id in wanted):
            self._draw(student, [Asked(step, rows), *coming()], seed)
        for id in wanted:
            self._kept[id] = (self._ahead.pop((step, id)), self._uses)
        rollouts = [self._kept[row.id][0] for row in rows]
        for row in rows:
            ids, left = self._kept[row.id]
            self._kept[row.id] = (ids, left - 1)
        self._kept = {id: (ids, left) for id, (ids, left) in self._kept.items() if left > 0}
        shown = zip(rows[:SAMPLES], rollouts[:SAMPLES], strict=True)
        self.last = [(row.id, row.question, ids) for row, ids in shown]
        return rollouts

    def _draw(self, student: Any, asked: Sequence[Asked], seed: int) -> None:
        """Draw in one batch every rollout that is neither kept nor drawn already."""
        missing = {
            (each.step, row.id): row
            for each in asked
            for row in each.rows
            if row.id not in self._kept and (each.step, row.id) not in self._ahead
        }
        seeds = [request_seed(seed, "rollout", *key) for key in missing]
        prompts = [row.prompt_ids for row in missing.values()]
        drawn = self._sampler.sample(student, prompts, seeds)
        self._ahead |= zip(missing, drawn, strict=True)

    def has_ended(self, rollout: Sequence[int]) -> bool:
        """Return whether a rollout ends with a stop token, not at the length limit."""
        return bool(rollout) and rollout[-1] in self._stop_ids

    def state_dict(self) -> dict[str, Any]:
        """Return the rollouts that later steps use, for a checkpoint."""
        return {
            "kept": [[id, ids, left] for id, (ids, left) in self._kept.items()],
            "ahead": [[step, id, ids] for (step, id), ids in self._ahead.items()],
            "last": [list(sample) for sample in self.last],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the rollouts of a checkpoint."""
        self._kept = {id: (ids, left) for id, ids, left in state["kept"]}
        self._ahead = {(step, id): ids for step, id, ids in state["ahead"]}
        self.last = [(id, question, ids) for id, question, ids in state["last"]]


class TransformersRollouts:
    """Samples from the student itself, which may be sharded over the processes.

    `autocast` is the type that its forward pass casts weights to, where it does: casts are then
    kept from one token to the next. `by_graph` replays a captured CUDA graph for every token.
    """

    def __init__(
        self,
        sampling: Sampling,
        stop_ids: Sequence[int],
        pad_id: int,
        *,
        sharded: bool = False,
        autocast: torch.dtype | None = None,
        by_graph: bool = False,
    ) -> None:
        self._sampling, self._sharded, self._autocast = sampling, sharded, autocast
        self._graph = GraphDecoder() if by_graph and not sharded else None
        self._ids: dict[str, Any] = {"stop_ids": list(stop_ids), "pad_id": pad_id}

    def sample(
        self, student: Any, prompts: Sequence[list[int]], seeds: Sequence[int]
    ) -> list[list[int]]:
        """Return the student's continuation of each prompt; leave the student in training mode."""
        # With an adapter, the base model's layers contain it.
        base = student.get_base_model() if hasattr(student, "get_base_model") else student
        student.eval()
        try:
            if self._graph and student.device.type == "cuda" and can_capture(base):
                return self._graph.decode(base, prompts, seeds, self._sampling, **self._ids)
            # Autocast keeps casts until its outermost context ends: without this, for one token.
            with torch.autocast(student.device.type, self._autocast, self._autocast is not None):
                return generate_batch(
                    student, prompts, seeds, self._sampling, in_step=self._sharded, **self._ids
                )
        finally:
            student.train()


class VllmRollouts:
    """Samples from a vLLM engine in this process, with the student's weights of the moment."""

    def __init__(
        self,
        model: ModelRef,
        dtype: str,
        max_model_len: int,
        sampling: Sampling,
        stop_ids: Sequence[int],
        runtime: RuntimeConfig,
    ) -> None:
        # Weights are handed over in memory, so the engine has to run in this process.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        from raft_core.engines.vllm import VllmGenerator

        config = VllmConfig.model_validate(
            {"model": model, "dtype": dtype, "max_model_len": max_model_len}
        )
        # At every sync it would log which layers have no weights.
        logging.getLogger("vllm").setLevel(logging.ERROR)
        self._engine = VllmGenerator(config, beside_training(runtime))
        self._sampling, self._stop_ids = sampling, list(stop_ids)

    def sample(
        self, student: Any, prompts: Sequence[list[int]], seeds: Sequence[int]
    ) -> list[list[int]]:
        """Hand the student's weights to the engine, and return its continuation of each prompt."""
        self._engine.load_weights(student_weights(student))
        return self._engine.complete_ids(prompts, seeds, self._sampling, self._stop_ids)


def beside_training(runtime: RuntimeConfig) -> RuntimeConfig:
    """Return the same runtime with an engine that leaves the GPU's memory to the training."""
    share = {"gpu_memory_utilization": runtime.vllm.beside_training, "tensor_parallel_size": 1}
    return runtime.model_copy(update={"vllm": runtime.vllm.model_copy(update=share)})


@torch.no_grad()
def student_weights(student: Any) -> dict[str, torch.Tensor]:
    """Return the weights that the student computes with, by the base model's parameter names.

    A LoRA layer counts with its adapter added. The output matrix is listed also where it is tied to
    the embeddings: vLLM packs it by itself and would keep the old one.
    """
    base = student.get_base_model() if hasattr(student, "get_base_model") else student
    weights: dict[str, torch.Tensor] = {}
    for name, parameter in base.named_parameters():
        if ".lora_" not in name:
            weights[name.replace(".base_layer", "")] = parameter.detach()
    for name, module in base.named_modules():
        if hasattr(module, "get_delta_weight"):
            weight = module.base_layer.weight
            changes = (module.get_delta_weight(adapter) for adapter in module.active_adapters)
            weights[f"{name}.weight"] = weight + sum(change.to(weight.dtype) for change in changes)
    weights["lm_head.weight"] = base.get_output_embeddings().weight.detach()
    return weights
