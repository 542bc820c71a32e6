"""Settings of the trainer and of the methods; imports no torch.

A method is a few switches of the one trainer: which answers are the targets, which teacher
distills, whether general prompts are rehearsed, and whether the result is pruned.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from raft_core.config.base import FrozenConfig, ModelRef, Seed
from raft_core.data.sources import DataSource
from raft_core.engines.base import Sampling
from raft_core.execution.slots import LONG, SHORT
from raft_core.execution.stage import Reads, Stage, StageConfig, after_training
from raft_core.prompts import PromptRef, TeacherPrompt
from raft_core.store.artifacts import StageSpec
from raft_core.store.record import WHOLE_ARTIFACT

Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
LearningRate = Annotated[float, Field(gt=0, le=1)]
Targets = Literal["raw", "rewritten", "fused"]


class BalanceConfig(FrozenConfig):
    """lambda of a distillation loss: balanced by moving averages (eqs. 11-12), or fixed.

    `kl_floor` keeps the ratio finite where the KL vanishes, `lambda_max` clamps it. `ramp` scales
    lambda linearly over the training, from its first number to its second.
    """

    rule: Literal["ema", "fixed"] = "ema"
    fixed: Annotated[float, Field(ge=0)] = Field(1.0, description="lambda under the rule 'fixed'")
    beta: Annotated[float, Field(ge=0, lt=1)] = 0.9
    kl_floor: PositiveFloat = 1e-3
    lambda_max: PositiveFloat = 10.0
    ramp: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]] = (1.0, 1.0)


class RehearsalConfig(FrozenConfig):
    """Self-rehearsal, which goes beyond the paper: the same KL on general prompts.

    The student answers them, and the base reads the very same context: what it would say there is
    to stay. Only prompts are needed (`data` may lack answers). Of a step's rollouts `share` are
    of such prompts, in place of the domain's, so that a step has as many rollouts as without.
    """

    data: DataSource
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    balance: BalanceConfig = BalanceConfig()


class PruneConfig(FrozenConfig):
    """FAPM: after training, this share of every matrix's change is taken back."""

    sparsity: Annotated[float, Field(ge=0, lt=1)] = 0.9


class MethodConfig(FrozenConfig):
    """One row of the comparison: targets, teacher, learning rate, rehearsal, pruning."""

    targets: Targets
    distillation: Literal["none", "unconditioned", "answer_conditioned"] = "none"
    learning_rate: LearningRate
    rehearsal: RehearsalConfig | None = None
    prune: PruneConfig | None = None

    @property
    def samples(self) -> bool:
        """Whether training draws rollouts, and therefore needs a teacher."""
        return self.distillation != "none" or self.rehearsal is not None


class AdapterConfig(FrozenConfig):
    """LoRA; the teacher is then the base under the disabled adapter, so there is no second copy."""

    rank: Positive = 16
    alpha: Positive = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    modules: str | tuple[str, ...] = Field(
        "all-linear", description="names of the layers, or all linear ones but the output layer"
    )


class DistillConfig(FrozenConfig):
    """The paper's recipe where it states one (lengths are in tokens).

    Beyond it, and off by default: `tail_bucket` (all tokens outside K are one more outcome of the
    KL), `skip_first` (so many tokens of a rollout bear no KL), `rollout_uses` (a row's rollout is
    used at so many of its visits before a new one is drawn), `rollout_ahead` (with a step's
    rollouts those of so many further steps are drawn, by a student that is then as many steps old).
    """

    epochs: Annotated[float, Field(gt=0, le=10_000)] = 3
    batch_size: Positive = Field(
        16, le=65_536, description="rows of one optimizer step, all processes"
    )
    gradient_accumulation: Positive = 1
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.03
    scheduler: Literal["linear", "cosine", "constant"] = "linear"
    max_grad_norm: PositiveFloat = 1.0
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    gradient_checkpointing: bool = True
    adapter: AdapterConfig | None = None
    max_prompt_tokens: Positive = 2048
    max_answer_tokens: Positive = 1024
    teacher_prompt: TeacherPrompt = PromptRef(name="teacher.v1")
    enable_thinking: bool = False
    rollout: Sampling = Sampling(temperature=1.0, max_tokens=512)
    rollout_engine: Literal["transformers", "vllm"] = "transformers"
    rollout_uses: Positive = 1
    rollout_ahead: Annotated[int, Field(ge=0, le=1000)] = 0
    top_k: Positive = 512
    temperature: PositiveFloat = 1.5
    tail_bucket: bool = False
    skip_first: Annotated[int, Field(ge=0)] = 0
    balance: BalanceConfig = BalanceConfig()
    log_every: Positive = 5

    @model_validator(mode="after")
    def _splits_evenly(self) -> DistillConfig:
        if self.batch_size % self.gradient_accumulation:
            raise ValueError(
                f"batch_size {self.batch_size} is no multiple of gradient_accumulation "
                f"{self.gradient_accumulation}"
            )
        return self


class DistillStage(StageConfig):
    """Identity of one training: the base, the method, the recipe and the seed."""

    model: ModelRef
    method: MethodConfig
    distill: DistillConfig
    seed: Seed

    def reads(self) -> Reads:
        """Return where the answers stand that the method learns."""
        return {
            "raw": {"prepare": ("train.jsonl",)},
            "rewritten": {"prepare": ("train.jsonl",), "filter": ("filtered.jsonl",)},
            "fused": {"fuse": ("fused.jsonl",)},
        }[self.method.targets]


class PruneStage(StageConfig):
    """Identity of the stage `prune`, which reads a `distill` artifact and that training's base."""

    model: ModelRef
    prune: PruneConfig

    def reads(self) -> Reads:
        """Return that the whole training is read."""
        return {"distill": WHOLE_ARTIFACT}


def rank_of_training(spec: StageSpec) -> int:
    """Return when a training starts: those that sample take longest, and come first."""
    sampling = DistillStage.model_validate(spec.config).method.samples
    return LONG if sampling else SHORT


DISTILL = Stage(
    "distill", 3, DistillStage, "raft_core.distill.distill", trains=True, rank=rank_of_training
)
PRUNE = Stage("prune", 1, PruneStage, "raft_core.distill.prune", rank=after_training)
