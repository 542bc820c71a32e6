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
    GenerationConfig,
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from raft_core.distill.checkpoints import STATE_FILE, last_complete_checkpoint, load_state
from raft_core.distill.config import DistillConfig, DistillStage
from raft_core.distill.output_layer import require_plain_output
from raft_core.distill.rehearsal import PromptCycle, load_prompts
from raft_core.distill.rollout import (
    RolloutSampler,
    RolloutSource,
    TransformersRollouts,
    VllmRollouts,
)
from raft_core.distill.targets import load_targets
from raft_core.distill.teacher import DisabledAdapter, FrozenCopy, Teacher
from raft_core.distill.trainer import RaftTrainer
from raft_core.distill.views import RowView, build_view, turn_end_id
from raft_core.distill.weight_distance import relative_distances
from raft_core.engines.chat import load_tokenizer, stop_token_ids
from raft_core.errors import InputError
from raft_core.records import FusedAnswer, Rejection, write_jsonl
from raft_core.runtime import RuntimeConfig
from raft_core.stage import StageRun

SAMPLES = 32


def run(stage: StageRun) -> None:
    """Writes checkpoint/, curves.jsonl, rollouts.jsonl, weight_distance.json and counts.

    With an adapter the checkpoint is the merged model, and adapter/ holds the adapter alone.
    """
    config: DistillStage = stage.config
    tokenizer = load_tokenizer(config.model)
    rows = load_targets(stage.inputs, config.method.targets)
    trainer = build_trainer(stage, rows, tokenizer)
    curves = CurveCallback(stage, trainer)
    for unwanted in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(unwanted)
    trainer.add_callback(curves)
    checkpoint = last_complete_checkpoint(Path(trainer.args.output_dir))
    if checkpoint is not None:
        stage.progress.note(f"distill: resuming from {checkpoint.name}")
        trainer.load_state_beside_checkpoint(load_state(checkpoint))
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.accelerator.is_main_process:
        write_results(stage, trainer, tokenizer, rows)


def build_trainer(stage: StageRun, rows: Sequence[FusedAnswer], tokenizer: Any) -> RaftTrainer:
    """Model, teacher and rollouts as the method and the settings want them."""
    config: DistillStage = stage.config
    method, distill = config.method, config.distill
    # Before the seed is set: starting vLLM draws random numbers.
    sampler = build_sampler(config, tokenizer, stage.runtime) if method.samples else None
    set_seed(config.seed)
    model = load_student(config, stage.runtime)
    stop_ids = stop_token_ids(tokenizer, model.generation_config)
    views = build_views(rows, tokenizer, distill, turn_end_id(tokenizer, stop_ids))
    prompts = load_prompts(method.rehearsal.data, tokenizer, distill) if method.rehearsal else []
    return RaftTrainer(
        model=model,
        args=training_arguments(config, stage, len(views)),
        views=views,
        method=method,
        config=distill,
        teacher=load_teacher(config, stage.runtime, model) if method.samples else None,
        rollouts=RolloutSource(sampler, stop_ids, distill.rollout_uses) if sampler else None,
        rehearsal=PromptCycle(prompts, config.seed) if prompts else None,
        pad_id=tokenizer.pad_token_id,
        processing_class=tokenizer,
    )


def build_sampler(config: DistillStage, tokenizer: Any, runtime: RuntimeConfig) -> RolloutSampler:
    """What draws the rollouts: the student itself, or a vLLM engine beside it."""
    distill = config.distill
    stop_ids = stop_token_ids(tokenizer, generation_config(config))
    if distill.rollout_engine == "transformers":
        return TransformersRollouts(distill.rollout, stop_ids, tokenizer.pad_token_id)
    longest = distill.max_prompt_tokens + distill.rollout.max_tokens
    return VllmRollouts(config.model, distill.dtype, longest, distill.rollout, stop_ids, runtime)


def generation_config(config: DistillStage) -> GenerationConfig | None:
    """The model's own, which may list more stop tokens than its tokenizer knows."""
    try:
        return GenerationConfig.from_pretrained(
            config.model.resolve(), revision=config.model.revision
        )
    except OSError:
        return None


def load_student(config: DistillStage, runtime: RuntimeConfig) -> Any:
    """The base model as it was before any training, whatever checkpoint a run resumes from.

    Weights that are trained are float32 also where training computes in bfloat16: at the paper's
    learning rate a step is smaller than the distance of two neighbouring bfloat16 numbers and
    would be lost. Under an adapter the base's own weights stay as they are.
    """
    adapter = config.distill.adapter
    model = load_model(config, runtime, "float32" if adapter is None else config.distill.dtype)
    require_plain_output(model.config)
    if adapter is None:
        return model
    from peft import LoraConfig, get_peft_model

    modules = adapter.modules if isinstance(adapter.modules, str) else list(adapter.modules)
    lora = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=modules,
        task_type="CAUSAL_LM",
    )
    if config.distill.gradient_checkpointing:
        model.enable_input_require_grads()
    return get_peft_model(model, lora)


def load_teacher(config: DistillStage, runtime: RuntimeConfig, student: Any) -> Teacher:
    """The base under the student's disabled adapter, or else a frozen copy."""
    if config.distill.adapter is not None:
        return DisabledAdapter(student)
    return FrozenCopy(load_model(config, runtime, config.distill.dtype))


def load_model(config: DistillStage, runtime: RuntimeConfig, dtype: str) -> Any:
    model = AutoModelForCausalLM.from_pretrained(
        config.model.resolve(),
        revision=config.model.revision,
        dtype=dtype,
        use_safetensors=True,
    )
    return model.to(runtime.torch_device())


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
            own = json.dumps(self._trainer.state_beside_checkpoint())
            (folder / STATE_FILE).write_text(own)


def write_results(
    stage: StageRun, trainer: RaftTrainer, tokenizer: Any, rows: Sequence[FusedAnswer]
) -> None:
    config: DistillStage = stage.config
    write_jsonl(stage.out / "curves.jsonl", [e for e in trainer.state.log_history if "loss" in e])
    drawn = trainer.rollouts.last[:SAMPLES] if trainer.rollouts else []
    write_jsonl(
        stage.out / "rollouts.jsonl",
        (
            {"id": view.id, "question": view.question, "rollout": tokenizer.decode(ids)}
            for view, ids in drawn
        ),
    )
    trained = trainer.accelerator.unwrap_model(trainer.model)
    if config.distill.adapter is not None:
        trained.save_pretrained(stage.out / "adapter")
        trained = trained.merge_and_unload()
    save_model(trained, tokenizer, stage.out, config, stage.runtime)
    write_summary(stage, trainer, rows)
    shutil.rmtree(trainer.args.output_dir, ignore_errors=True)


def save_model(
    trained: Any, tokenizer: Any, out: Path, config: DistillStage, runtime: RuntimeConfig
) -> None:
    """The checkpoint in the type of training, and how far its weights have moved."""
    distances = relative_distances(trained, load_model(config, runtime, "float32"))
    (out / "weight_distance.json").write_text(json.dumps(distances, indent=1))
    trained.to(getattr(torch, config.distill.dtype)).save_pretrained(out / "checkpoint")
    tokenizer.save_pretrained(out / "checkpoint")


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
