"""A short training on the embedded base, for the tests of the trainer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raft_core.config.base import ModelRef, digest_file
from raft_core.config.runtime import RuntimeConfig
from raft_core.data.records import FusedAnswer, read_jsonl, write_jsonl
from raft_core.distill.batches.targets import load_targets
from raft_core.distill.batches.views import RowView
from raft_core.distill.config import DistillConfig, DistillStage, MethodConfig
from raft_core.distill.distill import build_trainer
from raft_core.distill.trainer import RaftTrainer
from raft_core.engines.chat import load_tokenizer
from raft_core.execution.progress import Progress
from raft_core.execution.stage import StageRun
from raft_core.mini.world import domain_rows

RAFT = MethodConfig(targets="fused", distillation="answer_conditioned", learning_rate=1e-3)
SFT = MethodConfig(targets="fused", learning_rate=1e-3)
STEPS = 6


def settings(method: MethodConfig = RAFT, **changes: Any) -> DistillStage:
    distill: dict[str, Any] = {
        "epochs": STEPS / 4,
        "batch_size": 4,
        "dtype": "float32",
        "gradient_checkpointing": False,
        "max_prompt_tokens": 192,
        "max_answer_tokens": 96,
        "rollout": {"temperature": 1.0, "max_tokens": 24},
        "log_every": 1,
    }
    return DistillStage(
        model=ModelRef(path="mini:base"),
        method=method,
        distill=DistillConfig.model_validate(distill | changes),
        seed=7,
    )


def stage_run(folder: Path, config: DistillStage, count: int = 16, **training: Any) -> StageRun:
    for name in ("out", "scratch", "prepare", "fuse"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows = [row for row in domain_rows("law") if row["split"] == "train"][:count]
    write_jsonl(
        folder / "fuse" / "fused.jsonl",
        (FusedAnswer(r["id"], r["question"], r["answer"], "fused") for r in rows),
    )
    return StageRun(
        config,
        {"prepare": folder / "prepare", "fuse": folder / "fuse"},
        folder / "out",
        folder / "scratch",
        runtime(**training),
        Progress(folder / "events.jsonl"),
    )


def runtime(**training: Any) -> RuntimeConfig:
    """On the CPU, with a checkpoint at every second step."""
    return RuntimeConfig.model_validate({"device": "cpu", "training": {"save_every": 2} | training})


def weights(stage: StageRun) -> str:
    return digest_file(stage.out / "checkpoint" / "model.safetensors")


def losses_of(stage: StageRun) -> list[float]:
    return [point["loss"] for point in read_jsonl(stage.out / "curves.jsonl")]


def draw(trainer: RaftTrainer, rows: Sequence[RowView], step: int = 0) -> list[list[int]]:
    assert trainer.rollouts is not None
    return trainer.rollouts.draw(trainer.model, rows, 7, step)


def trainer_for(folder: Path, config: DistillStage | None = None) -> RaftTrainer:
    stage = stage_run(folder, config or settings())
    rows = load_targets(stage.inputs, stage.config.method.targets)
    return build_trainer(stage, rows, load_tokenizer(stage.config.model))
