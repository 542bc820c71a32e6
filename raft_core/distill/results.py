"""What a finished training leaves: the checkpoint, its curves, samples and counts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from raft_core.config.runtime import RuntimeConfig
from raft_core.data.records import FusedAnswer, Rejection, write_jsonl
from raft_core.distill.config import DistillStage
from raft_core.distill.health import CLAMPED
from raft_core.distill.models import load_model, load_student
from raft_core.distill.sharding import shards
from raft_core.distill.trainer import RaftTrainer
from raft_core.distill.weight_distance import relative_distances
from raft_core.execution.stage import StageRun, writing_model


def whole_student(trainer: RaftTrainer, config: DistillStage, runtime: RuntimeConfig) -> Any:
    """The trained student in one piece on the main process; None on all others.

    Every process has to call this. A student that was sharded comes back on the CPU: one device may
    not hold it whole.
    """
    main = trainer.accelerator.is_main_process
    if not shards(runtime):
        return trainer.accelerator.unwrap_model(trainer.model) if main else None
    weights = trainer.accelerator.get_state_dict(trainer.model)
    if not main:
        return None
    student = load_student(config, runtime.model_copy(update={"device": "cpu"}))
    student.load_state_dict(weights)
    return student


def write_results(
    stage: StageRun,
    trainer: RaftTrainer,
    trained: Any,
    tokenizer: Any,
    rows: Sequence[FusedAnswer],
) -> None:
    config: DistillStage = stage.config
    # Points from before a resume come back from the checkpoint with their names in order.
    curves = [curve_point(e) for e in trainer.state.log_history if "loss" in e]
    write_jsonl(stage.out / "curves.jsonl", curves)
    drawn = trainer.rollouts.last if trainer.rollouts else []
    write_jsonl(
        stage.out / "rollouts.jsonl",
        (
            {"id": id, "question": question, "rollout": tokenizer.decode(ids)}
            for id, question, ids in drawn
        ),
    )
    with writing_model(stage.out, "the last checkpoint is kept and the next run goes on from it"):
        if config.distill.adapter is not None:
            save_adapter(trained, stage.out / "adapter")
            trained = trained.merge_and_unload()
        save_model(trained, tokenizer, stage.out, config, stage.runtime)
    write_summary(stage, trainer, rows)


def save_adapter(trained: Any, folder: Path) -> None:
    """The adapter alone; PEFT writes a set of names in another order in every process."""
    trained.save_pretrained(folder)
    file = folder / "adapter_config.json"
    stated = json.loads(file.read_text())
    if isinstance(stated.get("target_modules"), list):
        stated["target_modules"].sort()
    file.write_text(json.dumps(stated, indent=2, sort_keys=True))


def save_model(
    trained: Any, tokenizer: Any, out: Path, config: DistillStage, runtime: RuntimeConfig
) -> None:
    """The checkpoint in the type of training, and how far its weights have moved."""
    distances = relative_distances(trained, load_model(config, runtime, "float32"))
    (out / "weight_distance.json").write_text(json.dumps(distances, indent=1))
    trained.to(getattr(torch, config.distill.dtype)).save_pretrained(out / "checkpoint")
    tokenizer.save_pretrained(out / "checkpoint")


def curve_point(logs: dict[str, float]) -> dict[str, float]:
    """Of a logged line, without what only `Health` reads: version 2 of the stage lacks it."""
    return {name: logs[name] for name in sorted(logs) if not name.startswith(CLAMPED)}


def write_summary(stage: StageRun, trainer: RaftTrainer, rows: Sequence[FusedAnswer]) -> None:
    """How much was trained on, and what did not fit its budgets of tokens."""
    summary = {
        "steps": trainer.state.global_step,
        "rows": len(trainer.views),
        "answers_cut": sum(view.answer_cut for view in trainer.views),
        "references_cut": sum(view.reference_cut for view in trainer.views),
        "questions_too_long": len(rows) - len(trainer.views),
    }
    (stage.out / "summary.json").write_text(json.dumps(summary, indent=1))
    kept = {view.id for view in trainer.views}
    too_long = [Rejection(r.id, "distill", "question_too_long") for r in rows if r.id not in kept]
    stage.account(len(rows), len(kept), too_long)
