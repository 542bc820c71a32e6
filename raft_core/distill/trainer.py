"""One trainer for every method, on `transformers.Trainer`: L = L_SFT + lambda * L_KL.

What differs from the paper, and why:
1. lambda is clamped and the KL has a floor in the ratio (BalanceConfig): the KL can vanish.
2. With gradient accumulation lambda lags one optimizer step: it must be known before the first
   backward pass of a step. Without accumulation it is the paper's.
3. A rollout that reaches the length limit keeps its tokens in the loss and has no stop token.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import Trainer

from raft_core.data.matching import LEAK_PHRASES
from raft_core.distill.batches.batches import (
    KL,
    REHEARSAL,
    Batch,
    Batching,
    Group,
    RowIndices,
    Scored,
    StepSize,
    collate,
    ending,
)
from raft_core.distill.batches.rehearsal import PromptCycle
from raft_core.distill.batches.step_groups import StepGroups
from raft_core.distill.batches.views import RowView
from raft_core.distill.checkpoints import prune, seal, unwritten
from raft_core.distill.config import DistillConfig, MethodConfig
from raft_core.distill.health import CLAMPED, leaking_share, repeated_share, require_finite
from raft_core.distill.loss.balance import AdaptiveBalance
from raft_core.distill.loss.chunked import Head
from raft_core.distill.loss.losses import (
    TeacherTarget,
    cross_entropy,
    mass_and_entropy,
    sequence_weights,
    teacher_target,
    topk_kl,
)
from raft_core.distill.loss.output_layer import replaced_output, require_plain_output
from raft_core.distill.rollout.lookahead import Lookahead
from raft_core.distill.rollout.rollout import RolloutSource
from raft_core.distill.sharding import here
from raft_core.distill.teacher import Teacher
from raft_core.errors import StageError


class RaftTrainer(Trainer):
    """Train a student by any method: SFT, distillation, rehearsal.

    `window` gathers what is logged between two log lines; `parts` are the groups of the step's
    forward passes that are still to come. `made_by` identifies the training: a resumed process must
    have the same as the checkpoint that it goes on from.
    """

    def __init__(
        self,
        *,
        views: Sequence[RowView],
        method: MethodConfig,
        config: DistillConfig,
        teacher: Teacher | None,
        rollouts: RolloutSource | None,
        rehearsal: PromptCycle | None,
        batching: Batching,
        made_by: Mapping[str, Any],
        **kwargs: Any,
    ) -> None:
        super().__init__(train_dataset=RowIndices(len(views)), data_collator=collate, **kwargs)
        self.model_accepts_loss_kwargs = False  # a mean: the base class scales it by the parts
        self.views, self.method, self.config = views, method, config
        self.teacher, self.rollouts = teacher, rollouts
        self.groups = StepGroups(method, self.args, rollouts, rehearsal)
        self.batching, self.made_by = batching, dict(made_by)
        self.balances: dict[str, AdaptiveBalance] = {}
        if method.distillation != "none":
            self.balances[KL] = AdaptiveBalance(config.balance, self.args.max_steps)
        if method.rehearsal is not None:
            own = method.rehearsal.balance
            self.balances[REHEARSAL] = AdaptiveBalance(own, self.args.max_steps)
        self.lookahead = Lookahead(config.rollout_ahead if rollouts else 0)
        self.is_first_pass = True
        self.pending: list[list[float]] = []
        self.parts: Iterator[list[Group]] = iter(())
        self.window: dict[str, list[float]] = defaultdict(list)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Skip training after a resume from the last step: only the results are left to write."""
        if self.state.global_step >= self.args.max_steps:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], StepSize]:
        """Take one optimizer step's batches, prepare what its parts read, count what it holds.

        The base class calls this before a step's first forward pass: the one place where all parts
        of the step are known, so that rollouts can be drawn for all of them at once.
        """
        batches = self.lookahead.take(epoch_iterator, num_batches)
        # The base class hands the second value on to `compute_loss` as `num_items_in_batch`.
        return batches, self._begin_step(batches)

    def _begin_step(self, batches: Sequence[dict[str, torch.Tensor]]) -> StepSize:
        parts, *later = (
            [[self.views[i] for i in batch["rows"].tolist()] for batch in step]
            for step in (batches, *self.lookahead.coming)
        )
        rows = [row for part in parts for row in part]
        counts = torch.tensor([sum(len(row.answer_ids) for row in rows), len(rows)])
        tokens, total = self.accelerator.reduce(counts.to(self.args.device)).tolist()
        self.pending.clear()
        self.parts = iter(self.groups.of(parts, self._unwrapped, self.state.global_step, later))
        return StepSize(tokens, total, len(batches) * self.args.world_size)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: StepSize | None = None,
    ) -> torch.Tensor:
        """Return L_SFT + sum of lambda * L_KL over the distillation losses of one forward pass.

        The trainer's base class calls this once per accumulated part, and backpropagates the
        result.
        """
        size = num_items_in_batch or self._begin_step([inputs])
        groups = next(self.parts)  # the answers to learn, then what is distilled
        batch = self.batching.student(groups)
        # The teacher goes first: its pass keeps no activations, the student's keeps all of them.
        targets = [None, *self._teacher_targets(groups[1:])]

        computed: list[torch.Tensor] = []

        def losses(hidden_BCD: torch.Tensor, head: Head) -> torch.Tensor:
            computed.append(torch.stack(self._losses(batch, targets, hidden_BCD, head, size)))
            return computed[-1]

        with replaced_output(self._unwrapped, losses):
            values = model(**batch.model_inputs).logits  # [1 + distillation losses], no logits
        # A model that caps its logits does so in every pass: one look is enough.
        if self.is_first_pass:
            require_plain_output(values, computed[-1], self._unwrapped)
            self.is_first_pass = False
        # Lambda is a plain number: no gradient flows through the ratio of the losses.
        weights = self._weights([group.loss for group in groups[1:]], values)
        return (values * values.new_tensor([1.0, *weights])).sum()

    @property
    def _unwrapped(self) -> Any:
        return self.accelerator.unwrap_model(self.model_wrapped)

    def _teacher_targets(self, groups: Sequence[Group]) -> list[TeacherTarget]:
        """Have the frozen base read its prefix and the student's ids (eq. 7); return its top K."""
        if not groups:
            return []
        assert self.teacher is not None
        batch, found = self.batching.teacher(groups), []
        tail = self.config.temperature if self.config.tail_bucket else None

        def read(hidden_BCD: torch.Tensor, head: Head) -> torch.Tensor:
            for scored in batch.scored(hidden_BCD):
                found.append(teacher_target(scored.hidden_ND, head, self.config.top_k, tail))
            return hidden_BCD[:, :1, :1]  # stands for the logits, which nobody reads

        with self.teacher.active() as model, replaced_output(model, read):
            model(**batch.model_inputs)
        return found

    def _losses(
        self,
        batch: Batch,
        targets: Sequence[TeacherTarget | None],
        hidden_BCD: torch.Tensor,
        head: Head,
        size: StepSize,
    ) -> list[torch.Tensor]:
        """Return each group's loss, scaled so that the mean over a step's parts is the step's loss.

        Parts differ in tokens and in rows: cross-entropy is a mean over all answer tokens of the
        step, the KL a mean over its sequences. Each part therefore weights its tokens by the counts
        of the whole step.
        """
        found, watched = [], (self.state.global_step + 1) % self.args.logging_steps == 0
        whole = size.rows / size.parts / len(batch.groups[0].rows)
        for scored, target in zip(batch.scored(hidden_BCD), targets, strict=True):
            hidden_ND, labels_N = scored.hidden_ND, scored.labels_N
            if target is None:
                share = size.parts / size.answer_tokens
                weights_N = torch.full_like(labels_N, share, dtype=torch.float32)
                found.append(cross_entropy(hidden_ND, head, labels_N, weights_N))
                continue
            weights_N = sequence_weights(scored.counts_B, whole * len(scored.group.rows))
            found.append(topk_kl(hidden_ND, head, target, weights_N, self.config.temperature))
            if watched:
                self._observe(scored, head, target)
        return found

    def _weights(self, names: Sequence[str], values: torch.Tensor) -> list[float]:
        """Return lambda of each distillation loss; a balance moves once per optimizer step."""
        # All processes have to move their balances alike, so they agree on the losses first.
        losses = self.accelerator.reduce(values.detach().float(), "mean").tolist()
        require_finite(losses, self.state.global_step + 1)
        self.pending.append(losses)
        before = [self.balances[name].weight for name in names]
        after = before
        if self.accelerator.sync_gradients:
            sft, *others = (fmean(column) for column in zip(*self.pending, strict=True))
            after = [self.balances[n].update(sft, kl) for n, kl in zip(names, others, strict=True)]
            for name in names:
                self.window[f"{CLAMPED}{ending(name)}"].append(self.balances[name].is_clamped)
        weights = after if self.config.gradient_accumulation == 1 else before
        self._note_losses(names, losses, weights)
        return weights

    def _note_losses(
        self, names: Sequence[str], losses: Sequence[float], weights: Sequence[float]
    ) -> None:
        self.window["loss_sft"].append(losses[0])
        for name, loss, weight in zip(names, losses[1:], weights, strict=True):
            self.window[f"loss_{name}"].append(loss)
            self.window[f"lambda{ending(name)}"].append(weight)
            self.window[f"ratio_sft_{name}"].append(losses[0] / max(weight * loss, 1e-12))

    def _observe(self, scored: Scored, head: Head, target: TeacherTarget) -> None:
        """Measure how the distillation goes; called only for steps that are logged."""
        group, weights_N = scored.group, sequence_weights(scored.counts_B)
        mass_N, entropy_N = mass_and_entropy(scored.hidden_ND, head, target.ids_NK)
        assert self.rollouts is not None
        stopped = sum(self.rollouts.has_ended(ids) for ids in group.completions)
        values = {
            "teacher_mass_in_k": (target.mass_N * weights_N).sum().item(),
            "student_mass_in_k": (mass_N * weights_N).sum().item(),
            "student_entropy": (entropy_N * weights_N).sum().item(),
            "rollout_tokens": fmean(map(len, group.completions)),
            "truncated_share": 1 - stopped / len(group.completions),
            "repeated_share": fmean(map(repeated_share, group.completions)),
            "leaking_share": self._leaking_share(group.completions),
        }
        for name, value in values.items():
            self.window[f"{name}{ending(group.loss)}"].append(value)

    def _leaking_share(self, completions: Sequence[list[int]]) -> float:
        tokenizer: Any = self.processing_class
        texts = tokenizer.batch_decode(completions, skip_special_tokens=True)
        return leaking_share(texts, LEAK_PHRASES)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the window's means over all processes, so that all judge the training alike."""
        means = {name: sum(values) / len(values) for name, values in self.window.items()}
        self.window.clear()
        if self.args.world_size > 1 and means:
            values = torch.tensor(list(means.values()), dtype=torch.float64)
            shared = self.accelerator.reduce(values.to(self.args.device), "mean").tolist()
            means = dict(zip(means, shared, strict=True))
        super().log(logs | means, *args, **kwargs)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> float:
        """Return the norm over all processes that clipping found; refuse one that is not finite.

        This is the last look before the optimizer's step.
        """
        norm = float(super()._get_grad_norm(model, grad_norm=grad_norm))
        require_finite([norm], self.state.global_step + 1, "gradient")
        return norm

    def require_finite_weights(self) -> None:
        """Refuse to go on with a trained weight that is not finite; every process has to call this.

        Raises:
            StageError: a trained weight is no number, in whichever process.
        """
        trained = [here(p.detach()) for p in self.model.parameters() if p.requires_grad]
        norm = self.accelerator.reduce(torch.nn.utils.get_total_norm(trained), "sum")
        require_finite([norm.item()], self.state.global_step, "norm of the weights")

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Write a checkpoint, seal it, and only then delete older ones.

        Raises:
            StageError: a weight is no number, or the checkpoint could not be written, on a full
                disk above all; older ones are kept.
        """
        self.require_finite_weights()
        folder, step = Path(self.args.output_dir), self.state.global_step
        try:
            super()._save_checkpoint(*args, **kwargs)
            self.accelerator.wait_for_everyone()  # every process writes a file of its own
            if self.is_world_process_zero():
                seal(folder / f"checkpoint-{step}", self.state_beside_checkpoint())
        except torch.OutOfMemoryError:  # a RuntimeError that no disk is to blame for
            raise
        except (OSError, RuntimeError, SafetensorError) as error:
            raise StageError(unwritten(folder, step, error)) from None
        if self.is_world_process_zero():
            prune(folder)

    def state_beside_checkpoint(self) -> dict[str, Any]:
        """Return what `transformers` does not save: the balances, and rollouts for later steps."""
        balances = {name: balance.state_dict() for name, balance in self.balances.items()}
        return {
            "made_by": self.made_by,
            "balances": balances,
            "rollouts": self.rollouts.state_dict() if self.rollouts else {},
        }

    def load_state_beside_checkpoint(self, state: dict[str, Any]) -> None:
        """Restore what `state_beside_checkpoint` returned."""
        for name, balance in self.balances.items():
            balance.load_state_dict(state["balances"][name])
        if self.rollouts is not None:
            self.rollouts.load_state_dict(state["rollouts"])
