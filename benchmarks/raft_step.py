"""RAFT's side of the comparison: the trainer as the stage `distill` builds it for a profile.

Variants: `full` is the method RAFT (SFT + KL); `kl` is its KL alone, which no method asks for: the
rows of the answers are then in no pass at all.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM

from benchmarks.training_spec import StepSpec
from benchmarks.training_turns import Phases, take_turns, watch_passes
from raft_core.app.settings import load_settings
from raft_core.data.records import FusedAnswer
from raft_core.distill.batches.batches import SFT, Batch, Group, StepSize
from raft_core.distill.distill import build_trainer
from raft_core.distill.rollout.rollout import RolloutSource
from raft_core.distill.trainer import RaftTrainer
from raft_core.engines.chat import load_tokenizer
from raft_core.execution.progress import Progress
from raft_core.execution.stage import StageRun


class KLAlone(RaftTrainer):
    """Distil on rollouts and learn no answers."""

    def _begin_step(self, batches: Sequence[dict[str, torch.Tensor]]) -> StepSize:
        size = super()._begin_step(batches)
        self.parts = iter([[Group(SFT, [], [], []), *groups[1:]] for groups in self.parts])
        return size

    def _losses(self, batch: Batch, targets: Any, *rest: Any) -> list[torch.Tensor]:
        distilled = replace(batch, groups=batch.groups[1:])
        found = super()._losses(distilled, targets[1:], *rest)
        return [found[0].new_zeros(()), *found]


def build(spec: StepSpec, phases: Phases) -> RaftTrainer:
    settings = load_settings("mini", "law", overrides(spec))
    folder = Path(spec.folder)
    stage = StageRun(
        settings.distill_stage("raft"),
        {},
        folder,
        folder,
        settings.runtime,
        Progress(folder / "events.jsonl"),
    )
    rows = [
        FusedAnswer(row["id"], row["question"], row["answer"], "reference")
        for row in spec.read_rows()
    ]
    watch_passes(phases, LlamaForCausalLM)
    phases.watch(RaftTrainer, "compute_loss", "loss")
    phases.watch(RolloutSource, "draw", "generation")
    trainer = build_trainer(stage, rows, load_tokenizer(settings.base))
    if spec.variant == "kl":
        trainer.__class__ = KLAlone
    return trainer


def overrides(spec: StepSpec) -> list[str]:
    """Return the settings with which the comparison overrides the profile `mini`."""
    rows = len(spec.read_rows())
    values = {
        "engine.model.path": spec.model,
        "methods.raft.learning_rate": spec.learning_rate,
        "distill.epochs": spec.steps * spec.batch_size / rows,
        "distill.batch_size": spec.batch_size,
        "distill.rollout.max_tokens": spec.new_tokens,
        "distill.top_k": spec.top_k,
        "distill.rollout_ahead": spec.ahead,
        "distill.temperature": 1.0,
        "distill.balance.rule": "fixed" if spec.variant == "kl" else "ema",
        "runtime.training.save_every": 10**6,
        "distill.log_every": spec.log_every,
        "runtime.threads_per_stage": spec.threads,
        "runtime.device": "auto",
    }
    return [f"{name}={value}" for name, value in values.items()]


if __name__ == "__main__":
    take_turns(StepSpec.from_argument(sys.argv[1]), build)
