"""Stage `distill`: rows and a base model in, a checkpoint with its curves out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from raft_core.distill.config import DistillConfig, DistillStage
from raft_core.distill.trainer import RaftTrainer
from raft_core.distill.views import RowView, build_view, turn_end_id
from raft_core.distill.weight_distance import relative_distances
from raft_core.engines.chat import load_tokenizer, stop_token_ids
from raft_core.errors import InputError
from raft_core.records import Example, FusedAnswer, Rejection, read_records, write_jsonl
from raft_core.runtime import RuntimeConfig
from raft_core.stage import StageRun

BALANCE_FILE = "balance.json"
SAMPLES = 32


def run(stage: StageRun) -> None:
    """Writes checkpoint/, curves.jsonl, rollouts.jsonl, weight_distance.json and counts."""
    config: DistillStage = stage.config
    set_seed(config.seed)
    tokenizer = load_tokenizer(config.model)
    model = load_model(config, stage.runtime)
    stop_ids = stop_token_ids(tokenizer, model.generation_config)
    rows = load_targets(stage.inputs)
    views = build_views(rows, tokenizer, config.distill, turn_end_id(tokenizer, stop_ids))
    distills = config.method.distillation != "none"
    trainer = RaftTrainer(
        model=model,
        args=training_arguments(config, stage, len(views)),
        views=views,
        teacher=load_teacher(config, stage.runtime) if distills else None,
        config=config.distill,
        stop_ids=stop_ids,
        pad_id=tokenizer.pad_token_id,
        processing_class=tokenizer,
    )
    curves = CurveCallback(stage, trainer)
    for unwanted in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(unwanted)
    trainer.add_callback(curves)
    checkpoint = last_complete_checkpoint(Path(trainer.args.output_dir))
    if checkpoint is not None:
        stage.progress.note(f"distill: resuming from {checkpoint.name}")
        load_balance(trainer, checkpoint)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.accelerator.is_main_process:
        write_results(stage, trainer, tokenizer, rows, curves)


def load_model(config: DistillStage, runtime: RuntimeConfig) -> Any:
    """The base model as it was before any training, whatever checkpoint a run resumes from.

    Its weights are float32 also where training computes in bfloat16: at the paper's learning rate
    a step is smaller than the distance of two neighbouring bfloat16 numbers and would be lost.
    """
    return _load(config, runtime, "float32")


def load_teacher(config: DistillStage, runtime: RuntimeConfig) -> Any:
    """A frozen copy of the base."""
    return _load(config, runtime, config.distill.dtype).eval().requires_grad_(False)


def _load(config: DistillStage, runtime: RuntimeConfig, dtype: str) -> Any:
    model = AutoModelForCausalLM.from_pretrained(
        config.model.resolve(),
        revision=config.model.revision,
        dtype=dtype,
        use_safetensors=True,
    )
    return model.to(runtime.torch_device())


def load_targets(inputs: dict[str, Path]) -> list[FusedAnswer]:
    """The rows to learn: fused answers where that artifact is an input, else the raw ones."""
    if "fuse" in inputs:
        return read_records(inputs["fuse"] / "fused.jsonl", FusedAnswer)
    examples = read_records(inputs["prepare"] / "train.jsonl", Example)
    return [FusedAnswer(e.id, e.question, e.answer, "reference") for e in examples]


def build_views(
    rows: Iterable[FusedAnswer], tokenizer: Any, config: DistillConfig, turn_end: int
) -> list[RowView]:
    """Token views of all rows that fit their budgets.

    Raises:
        InputError: none does.
    """
    views = [build_view(row, tokenizer, config, turn_end) for row in rows]
    fitting = [view for view in views if view is not None]
    if not fitting:
        raise InputError(
            f"no question fits distill.max_prompt_tokens={config.max_prompt_tokens}; raise it"
        )
    return fitting


def training_arguments(config: DistillStage, stage: StageRun, rows: int) -> TrainingArguments:
    distill, runtime = config.distill, stage.runtime
    per_process = distill.batch_size // distill.gradient_accumulation // world_size()
    if per_process < 1 or per_process * distill.gradient_accumulation * world_size() != (
        distill.batch_size
    ):
        raise InputError(
            f"distill.batch_size={distill.batch_size} cannot be split over "
            f"{world_size()} processes and {distill.gradient_accumulation} accumulation steps"
        )
    drop_last = rows >= distill.batch_size
    of_all = per_process * world_size()
    batches = rows // of_all if drop_last else ceil(rows / of_all)
    steps = max(1, round(distill.epochs * ceil(batches / distill.gradient_accumulation)))
    return TrainingArguments(
        output_dir=str(stage.scratch / "checkpoints"),
        max_steps=steps,
        per_device_train_batch_size=per_process,
        gradient_accumulation_steps=distill.gradient_accumulation,
        gradient_checkpointing=distill.gradient_checkpointing,
        learning_rate=config.method.learning_rate,
        lr_scheduler_type=distill.scheduler,
        warmup_steps=round(distill.warmup_fraction * steps),
        weight_decay=distill.weight_decay,
        max_grad_norm=distill.max_grad_norm,
        bf16=distill.dtype == "bfloat16" and runtime.torch_device() == "cuda",
        use_cpu=runtime.torch_device() == "cpu",
        seed=config.seed,
        data_seed=config.seed,
        dataloader_drop_last=drop_last,
        dataloader_num_workers=0,
        dataloader_pin_memory=runtime.torch_device() == "cuda",
        remove_unused_columns=False,
        logging_steps=distill.log_every,
        save_steps=distill.save_every,
        save_total_limit=2,
        report_to=[],
        disable_tqdm=True,
    )


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


class CurveCallback(TrainerCallback):
    """Progress and curves while training; the balance beside every checkpoint."""

    def __init__(self, stage: StageRun, trainer: RaftTrainer) -> None:
        self._stage, self._trainer = stage, trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._stage.progress.start("train", state.max_steps)
        self._stage.progress.advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._stage.progress.advance()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        values = {k: float(v) for k, v in (logs or {}).items() if isinstance(v, int | float)}
        if "loss" in values:
            self._stage.progress.metrics(state.global_step, values)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and folder.is_dir():
            (folder / BALANCE_FILE).write_text(json.dumps(self._trainer.balance.state_dict()))


def last_complete_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    for checkpoint in reversed(found):
        if (checkpoint / BALANCE_FILE).is_file() and (checkpoint / "trainer_state.json").is_file():
            return checkpoint
    return None


def load_balance(trainer: RaftTrainer, checkpoint: Path) -> None:
    trainer.balance.load_state_dict(json.loads((checkpoint / BALANCE_FILE).read_text()))


def write_results(
    stage: StageRun,
    trainer: RaftTrainer,
    tokenizer: Any,
    rows: Sequence[FusedAnswer],
    curves: CurveCallback,
) -> None:
    config: DistillStage = stage.config
    write_jsonl(stage.out / "curves.jsonl", [e for e in trainer.state.log_history if "loss" in e])
    write_jsonl(
        stage.out / "rollouts.jsonl",
        (
            {"id": view.id, "question": view.question, "rollout": tokenizer.decode(ids)}
            for view, ids in trainer.last_rollouts[:SAMPLES]
        ),
    )
    trained = trainer.accelerator.unwrap_model(trainer.model)
    distances = relative_distances(trained, load_model(config, stage.runtime))
    trained.to(getattr(torch, config.distill.dtype)).save_pretrained(stage.out / "checkpoint")
    tokenizer.save_pretrained(stage.out / "checkpoint")
    (stage.out / "weight_distance.json").write_text(json.dumps(distances, indent=1))
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
    shutil.rmtree(trainer.args.output_dir, ignore_errors=True)
