"""Settings of the trainer and of the methods; imports no torch.

A method is two switches: which answers are the targets, and which teacher distills.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from raft_core.config import FrozenConfig, ModelRef
from raft_core.engines.base import Sampling
from raft_core.prompts import PromptRef, TeacherPrompt

VERSION = 1
Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]


class MethodConfig(FrozenConfig):
    """One row of the comparison."""

    targets: Literal["raw", "fused"]
    distillation: Literal["none", "answer_conditioned"] = "none"
    learning_rate: PositiveFloat


class BalanceConfig(FrozenConfig):
    """EMA balance of the two losses (eqs. 11-12).

    `kl_floor` keeps the ratio finite where the KL vanishes, `lambda_max` clamps it.
    """

    beta: Annotated[float, Field(ge=0, lt=1)] = 0.9
    kl_floor: PositiveFloat = 1e-3
    lambda_max: PositiveFloat = 10.0


class DistillConfig(FrozenConfig):
    """The paper's recipe where it states one (lengths are in tokens)."""

    epochs: PositiveFloat = 3
    batch_size: Positive = Field(16, description="rows of one optimizer step, all processes")
    gradient_accumulation: Positive = 1
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.03
    scheduler: Literal["linear", "cosine", "constant"] = "linear"
    max_grad_norm: PositiveFloat = 1.0
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    gradient_checkpointing: bool = True
    max_prompt_tokens: Positive = 2048
    max_answer_tokens: Positive = 1024
    teacher_prompt: TeacherPrompt = PromptRef(name="teacher.v1")
    enable_thinking: bool = False
    rollout: Sampling = Sampling(temperature=1.0, max_tokens=512)
    top_k: Positive = 512
    temperature: PositiveFloat = 1.5
    balance: BalanceConfig = BalanceConfig()
    save_every: Positive = Field(100, description="optimizer steps between checkpoints")
    log_every: Positive = 5

    @model_validator(mode="after")
    def _splits_evenly(self) -> DistillConfig:
        if self.batch_size % self.gradient_accumulation:
            raise ValueError(
                f"batch_size {self.batch_size} is no multiple of gradient_accumulation "
                f"{self.gradient_accumulation}"
            )
        return self


class DistillStage(FrozenConfig):
    model: ModelRef
    method: MethodConfig
    distill: DistillConfig
    seed: int
