"""Stage `distill`: rows and a base model in, a checkpoint with its curves out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import torch
from transformers import (
    PrinterCallback,
    ProgressCallback,
    TrainingArguments,
    set_seed,
)

from raft_core.config.runtime import RuntimeConfig
from raft_core.data.records import FusedAnswer
from raft_core.distill.batches.batches import Batching
from raft_core.distill.batches.packed_attention import packs
from raft_core.distill.batches.prefix_cache import PrefixCache
from raft_core.distill.batches.rehearsal import PromptCycle, load_prompts
from raft_core.distill.batches.targets import load_targets
from raft_core.distill.batches.views import RowView, build_view, turn_end_id
from raft_core.distill.callbacks import CurveCallback, HealthCallback
from raft_core.distill.checkpoints import (
    last_good_checkpoint,
    load_state,
    logged_before,
)
from raft_core.distill.config import DistillConfig, DistillStage
from raft_core.distill.models import generation_config, load_student, load_teacher
from raft_core.distill.results import whole_student, write_results
from raft_core.distill.rollout.rollout import (
    RolloutSampler,
    RolloutSource,
    TransformersRollouts,
    VllmRollouts,
)
from raft_core.distill.sharding import fsdp_arguments, shards
from raft_core.distill.teacher import Teacher
from raft_core.distill.trainer import RaftTrainer
from raft_core.engines.chat import load_tokenizer, require_vocabulary, stop_token_ids
from raft_core.errors import InputError
from raft_core.execution.launcher import meet, world_size
from raft_core.execution.stage import StageRun


def run(stage: StageRun) -> None:
    """Writes checkpoint/, curves.jsonl, rollouts.jsonl, weight_distance.json and counts.

    With an adapter the checkpoint is the merged model, and adapter/ holds the adapter alone.

    Raises:
        StageError: training stopped itself (see `health`) or could not write a checkpoint; the last
            good one is kept and the next run resumes from it.
    """
    meet()
    config: DistillStage = stage.config
    tokenizer = load_tokenizer(config.model)
    rows = load_targets(stage.inputs, config.method.targets)
    trainer = build_trainer(stage, rows, tokenizer)
    health = HealthCallback(stage)
    for unwanted in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(unwanted)
    for wanted in (CurveCallback(stage), health):
        trainer.add_callback(wanted)
    checkpoint = resumable(stage, trainer, health)
    if checkpoint is not None:
        stage.progress.note(f"distill: resuming from {checkpoint.name}")
        state = load_state(checkpoint)
        require_same_makers(state.get("made_by", {}), trainer.made_by, checkpoint)
        trainer.load_state_beside_checkpoint(state)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    health.require_well()
    trainer.require_finite_weights()
    trained = whole_student(trainer, config, stage.runtime)
    if trained is not None:
        write_results(stage, trainer, trained, tokenizer, rows)


def resumable(stage: StageRun, trainer: RaftTrainer, health: HealthCallback) -> Path | None:
    """The checkpoint to go on from; every process has to call this.

    Raises:
        StageError: a training that was stopped is still unwell under the limits of today.
    """
    from accelerate.utils import broadcast_object_list

    found: list[Path | None] = [None]
    if trainer.is_world_process_zero():
        folder = Path(trainer.args.output_dir)
        found = [last_good_checkpoint(folder, stage.progress.note)]
    newest = broadcast_object_list(found)[0]
    if newest is not None:
        health.resume(logged_before(newest))
    return newest


def require_same_makers(then: Mapping[str, Any], now: Mapping[str, Any], checkpoint: Path) -> None:
    """
    Raises:
        InputError: the checkpoint is another training's, or lies in the parts of other processes.
    """
    if then.get("key") != now["key"]:
        raise InputError(
            f"'{checkpoint}' is of a training with other settings or rows; give another --out, or "
            f"remove '{checkpoint.parent}'"
        )
    if then["sharded_over"] != now["sharded_over"]:
        raise InputError(
            f"'{checkpoint}' was written by a training that {split_of(then)}, this one "
            f"{split_of(now)}; set runtime.training.processes and runtime.training.shard back, or "
            f"remove '{checkpoint.parent}' to start anew"
        )


def split_of(made_by: Mapping[str, Any]) -> str:
    processes = made_by["sharded_over"]
    return f"is split over {processes} processes" if processes else "is not split"


def build_trainer(stage: StageRun, rows: Sequence[FusedAnswer], tokenizer: Any) -> RaftTrainer:
    """Model, teacher and rollouts as the method and the settings want them."""
    config: DistillStage = stage.config
    method, distill = config.method, config.distill
    # Before the seed is set: starting vLLM draws random numbers.
    sampler = build_sampler(config, tokenizer, stage.runtime) if method.samples else None
    set_seed(config.seed)
    model = load_student(config, stage.runtime)
    require_vocabulary(tokenizer, model, config.model)
    stop_ids = stop_token_ids(tokenizer, model.generation_config)
    views = build_views(rows, tokenizer, distill, turn_end_id(tokenizer, stop_ids))
    prompts = load_prompts(method.rehearsal.data, tokenizer, distill) if method.rehearsal else []
    teacher = load_teacher(config, stage.runtime, model) if method.samples else None
    return RaftTrainer(
        model=model,
        args=training_arguments(config, stage, len(views)),
        views=views,
        method=method,
        config=distill,
        teacher=teacher,
        rollouts=RolloutSource(sampler, stop_ids, distill.rollout_uses) if sampler else None,
        rehearsal=PromptCycle(prompts, config.seed) if prompts else None,
        batching=build_batching(stage, model, teacher, [*views, *prompts], tokenizer.pad_token_id),
        made_by={"key": stage.key, "sharded_over": world_size() * shards(stage.runtime)},
        processing_class=tokenizer,
    )


def build_sampler(config: DistillStage, tokenizer: Any, runtime: RuntimeConfig) -> RolloutSampler:
    """What draws the rollouts: the student itself, or a vLLM engine beside it."""
    distill = config.distill
    stop_ids = stop_token_ids(tokenizer, generation_config(config))
    if distill.rollout_engine == "transformers":
        return TransformersRollouts(
            distill.rollout,
            stop_ids,
            tokenizer.pad_token_id,
            sharded=shards(runtime),
            autocast=autocast(config, runtime),
            by_graph=runtime.training.graph_rollouts,
        )
    longest = distill.max_prompt_tokens + distill.rollout.max_tokens
    return VllmRollouts(config.model, distill.dtype, longest, distill.rollout, stop_ids, runtime)


def autocast(config: DistillStage, runtime: RuntimeConfig) -> torch.dtype | None:
    """What the trainer lets the student's float32 weights be cast to in a forward pass."""
    casts = config.distill.dtype == "bfloat16" and runtime.torch_device() == "cuda"
    whole = config.distill.adapter is None and not shards(runtime)
    return torch.bfloat16 if casts and whole else None


def build_batching(
    stage: StageRun,
    student: Any,
    teacher: Teacher | None,
    views: Sequence[RowView],
    pad_id: int,
) -> Batching:
    """Packed where student and teacher compute packed rows as they do single ones."""
    config: DistillStage = stage.config
    distill = config.distill
    device = torch.device(stage.runtime.torch_device())
    answer = max(distill.rollout.max_tokens, *(len(view.answer_ids) for view in views))
    longest = answer + max(max(len(v.teacher_ids), len(v.prompt_ids)) for v in views)
    packed = packs(student, longest)
    if teacher is not None and teacher.model is not student:
        packed = packs(teacher.model, longest) and packed
    if not packed:
        stage.progress.note("distill: this model reads padded batches (its attention cannot pack)")
        return Batching(pad_id, distill.skip_first, device)
    prefixes = None
    budget = int(stage.runtime.training.prefix_cache_gib * 2**30)
    again = distill.epochs > 1 and config.method.distillation != "none"
    if teacher is not None and budget and again and not shards(stage.runtime):
        conditioned = config.method.distillation == "answer_conditioned"
        prompts = [view.teacher_ids if conditioned else view.prompt_ids for view in views]
        prefixes = PrefixCache(budget, device)
        prefixes.fill(teacher, prompts, distill.batch_size)
    return Batching(pad_id, distill.skip_first, device, packed=True, prefixes=prefixes)


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
    require_fitting(config, per_process)
    drop_last = rows >= distill.batch_size
    of_all = per_process * world_size()
    batches = rows // of_all if drop_last else ceil(rows / of_all)
    steps = max(1, round(distill.epochs * ceil(batches / distill.gradient_accumulation)))
    arguments = TrainingArguments(
        output_dir=str(stage.scratch / "checkpoints"),
        max_steps=steps,
        per_device_train_batch_size=per_process,
        gradient_accumulation_steps=distill.gradient_accumulation,
        gradient_checkpointing=distill.gradient_checkpointing and not shards(runtime),
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
        # Curves are means between two logged steps: a resume begins where such a part begins.
        save_steps=ceil(runtime.training.save_every / distill.log_every) * distill.log_every,
        report_to=[],
        disable_tqdm=True,
        **fsdp_arguments(config, runtime),
    )
    arguments._n_gpu = 1  # one device a process: no DataParallel where several are visible
    return arguments


def require_fitting(config: DistillStage, per_process: int) -> None:
    """Refuse what cannot be done with so many rows of one process in one pass.

    Raises:
        InputError: with the field and the remedy.
    """
    method, distill = config.method, config.distill
    of_one_process = {
        "rollout_engine=vllm": distill.rollout_engine == "vllm",
        "rollout_uses above 1": distill.rollout_uses > 1,
        "rollout_ahead above 0": distill.rollout_ahead > 0,
    }
    chosen = [f"distill.{name}" for name, is_chosen in of_one_process.items() if is_chosen]
    if world_size() > 1 and chosen:
        raise InputError(
            f"{' and '.join(chosen)} can be used in one process only: set it back, or "
            "runtime.training.processes=1"
        )
    if method.rehearsal is not None:
        prompts = method.rehearsal.share * per_process
        whole = abs(prompts - round(prompts)) < 1e-9 and prompts >= 1
        if not whole or (method.distillation != "none" and prompts >= per_process):
            raise InputError(
                f"rehearsal.share={method.rehearsal.share:g} of the {per_process} rows of one pass "
                "must be a whole number of at least 1, and leave rows to the domain's own "
                "distillation; change it or distill.gradient_accumulation"
            )
