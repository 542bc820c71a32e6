"""TRL's side of the comparison: its `SDFTTrainer`, in an environment of its own.

The settings make it do what RAFT's KL does: forward KL on K tokens (of the student there, of the
teacher here), a frozen teacher that reads the reference in RAFT's words, one completion a prompt,
no gradient checkpointing, float32. What differs: TRL has one temperature for sampling and for the
loss, so both sides use 1.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoTokenizer, LlamaForCausalLM
from trl.experimental.sdft import SDFTConfig, SDFTTrainer

from benchmarks.training_spec import StepSpec
from benchmarks.training_turns import Phases, take_turns, watch_passes

# `ahead` draws the rollouts of some steps at once, from a student that is then older.
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "static": {"cache_implementation": "static"},
    "eager": {"model_init_kwargs": {"attn_implementation": "eager"}},
    "compiled": {"torch_compile": True},
    "ahead": {},
}


def build(spec: StepSpec, phases: Phases) -> SDFTTrainer:
    tokenizer = AutoTokenizer.from_pretrained(spec.model, padding_side="left")
    rows = [
        {
            "prompt": [{"role": "user", "content": row["question"]}],
            "privileged_context": row["answer"],
        }
        for row in spec.read_rows()
    ]
    watch_passes(phases, LlamaForCausalLM)
    phases.watch(SDFTTrainer, "compute_loss", "loss")
    phases.watch(SDFTTrainer, "_generate", "generation")
    return SDFTTrainer(
        model=spec.model,
        args=arguments(spec),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )


def arguments(spec: StepSpec) -> SDFTConfig:
    own = VARIANTS[spec.variant] | {"steps_per_generation": spec.ahead + 1}
    loading = {"dtype": "float32", **own.get("model_init_kwargs", {})}
    values = {
        "output_dir": spec.folder,
        "max_steps": spec.steps,
        "per_device_train_batch_size": spec.batch_size,
        "learning_rate": spec.learning_rate,
        "weight_decay": 0.01,
        "num_generations": 1,
        "max_completion_length": spec.new_tokens,
        "temperature": 1.0,
        "distillation_mode": "topk_logits",
        "distillation_topk": spec.top_k,
        "distillation_alpha": 0.0,
        "teacher_model_kind": "base",
        "teacher_prompt_template": spec.trl_teacher_prompt,
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": False,
        "dataloader_drop_last": True,
        "logging_steps": spec.log_every,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }
    return SDFTConfig(**(values | own | {"model_init_kwargs": loading}))


if __name__ == "__main__":
    take_turns(StepSpec.from_argument(sys.argv[1]), build)
