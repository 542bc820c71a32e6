"""The student, its teacher, and the base that both start from."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from raft_core.config.runtime import RuntimeConfig
from raft_core.distill.config import DistillStage
from raft_core.distill.sharding import sharded, shards
from raft_core.distill.teacher import DisabledAdapter, FrozenCopy, Teacher
from raft_core.engines.chat import loading
from raft_core.errors import InputError


def generation_config(config: DistillStage) -> GenerationConfig | None:
    """Return the model's own generation config, if it has one.

    It may list more stop tokens than the tokenizer knows.
    """
    try:
        return GenerationConfig.from_pretrained(
            config.model.resolve(), revision=config.model.revision
        )
    except OSError:
        return None


def load_student(config: DistillStage, runtime: RuntimeConfig) -> Any:
    """Load the untrained base as the student, whatever checkpoint a run resumes from.

    Weights that are trained are float32 also where training computes in bfloat16: at the paper's
    learning rate a step is smaller than the distance of two neighbouring bfloat16 numbers and would
    be lost. Under an adapter the base's own weights keep the configured type.

    Raises:
        InputError: the adapter covers the output layer.
    """
    adapter = config.distill.adapter
    model = load_model(config, runtime, "float32" if adapter is None else config.distill.dtype)
    if runtime.torch_device() == "cpu" and not shards(runtime):  # FSDP splits by rows
        store_by_columns(model)
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
    student = get_peft_model(model, lora)
    if hasattr(student.get_output_embeddings(), "base_layer"):
        raise InputError(
            "distill.adapter.modules names the output layer, which the losses read without an "
            "adapter; leave it out"
        )
    return student


def load_teacher(config: DistillStage, runtime: RuntimeConfig, student: Any) -> Teacher:
    """Return the base as teacher: the student with its adapter disabled, or else a frozen copy."""
    if config.distill.adapter is not None:
        return DisabledAdapter(student)
    model = load_model(config, runtime, config.distill.dtype)
    return FrozenCopy(sharded(model) if shards(runtime) else model)


def load_model(config: DistillStage, runtime: RuntimeConfig, dtype: str) -> Any:
    """Load the base in the given type onto the training device."""
    with loading(config.model):
        model = AutoModelForCausalLM.from_pretrained(
            config.model.resolve(),
            revision=config.model.revision,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
        )
    return model.to(runtime.torch_device())


def store_by_columns(model: Any) -> None:
    """Lay the linear layers' weights out by columns in memory; no number changes, nor any result.

    On a CPU a product with few rows, as in every decoding step, takes about two thirds of the time.
    The output matrix stays: the losses read rows of it.
    """
    output = model.get_output_embeddings()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module is not output:
            module.weight.data = module.weight.data.t().contiguous().t()
