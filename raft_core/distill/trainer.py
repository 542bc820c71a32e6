"""One trainer for every method, on `transformers.Trainer`: L = L_SFT + lambda * L_KL.

What differs from the paper, and why:
1. lambda is clamped and the KL has a floor in the ratio (BalanceConfig): the KL can vanish.
2. With gradient accumulation lambda lags one optimizer step: it must be known before the first
   backward pass of a step. Without accumulation it is the paper's.
3. A rollout that reaches the length limit keeps its tokens in the loss and has no stop token.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import torch
from transformers import Trainer

from raft_core.distill.balance import AdaptiveBalance
from raft_core.distill.config import DistillConfig
from raft_core.distill.losses import (
    TeacherTarget,
    entropy,
    mass_on,
    mean_over_sequences,
    sft_cross_entropy,
    teacher_target,
    topk_kl,
)
from raft_core.distill.views import Padded, RowView, join, pad_rows
from raft_core.engines.base import request_seed
from raft_core.engines.transformers import generate_batch


class RowIndices(torch.utils.data.Dataset):
    """The trainer's dataset: indices into the list of views."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> int:
        return index


def collate(indices: Sequence[int]) -> dict[str, torch.Tensor]:
    return {"rows": torch.tensor(list(indices))}


class RaftTrainer(Trainer):
    """SFT, and with a teacher RAFT. `window` gathers what is logged between two log lines."""

    def __init__(
        self,
        *,
        views: Sequence[RowView],
        teacher: Any | None,
        config: DistillConfig,
        stop_ids: Sequence[int],
        pad_id: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(train_dataset=RowIndices(len(views)), data_collator=collate, **kwargs)
        self.model_accepts_loss_kwargs = False  # the loss is a mean: let the base class scale it
        self.views, self.teacher, self.config = views, teacher, config
        self.stop_ids, self.pad_id = list(stop_ids), pad_id
        self.balance = AdaptiveBalance(config.balance)
        self.pending: list[tuple[float, float]] = []
        self.window: dict[str, list[float]] = defaultdict(list)
        self.last_rollouts: list[tuple[RowView, list[int]]] = []

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        rows = [self.views[i] for i in inputs["rows"].tolist()]
        answers = [row.answer_ids for row in rows]
        prompts = [row.prompt_ids for row in rows]
        if self.teacher is None:
            batch = self._pad(prompts, answers)
            logits_BCV = model(**batch.model_inputs).logits[:, :-1]
            sft = sft_cross_entropy(logits_BCV, batch.labels_BC, batch.mask_BC)
            self.window["loss_sft"].append(sft.item())
            return sft
        rollouts = self._rollouts(rows)
        width = max(len(ids) for ids in [*answers, *rollouts])
        sft_batch = self._pad(prompts, answers, width)
        kl_batch = self._pad(prompts, rollouts, width)
        target = self._teacher_target(rows, rollouts, width)
        logits_BCV = model(**join(sft_batch, kl_batch).model_inputs).logits[:, :-1]
        sft_logits_BCV, kl_logits_BCV = logits_BCV.split(len(rows))
        sft = sft_cross_entropy(sft_logits_BCV, sft_batch.labels_BC, sft_batch.mask_BC)
        kl = topk_kl(kl_logits_BCV, target, kl_batch.mask_BC, self.config.temperature)
        weight = self._balance_weight(sft, kl)
        self._observe(sft, kl, weight, rollouts, kl_logits_BCV, kl_batch, target)
        return sft + weight * kl

    def _pad(
        self, prompts: list[list[int]], completions: list[list[int]], width: int | None = None
    ) -> Padded:
        return pad_rows(prompts, completions, self.pad_id, self.args.device, width)

    def _rollouts(self, rows: Sequence[RowView]) -> list[list[int]]:
        """z ~ p_theta(. | x) of the current student (eq. 6); seeded by step and row."""
        student = self.accelerator.unwrap_model(self.model_wrapped)
        student.eval()
        seeds = [
            request_seed(self.args.seed, "rollout", self.state.global_step, row.id) for row in rows
        ]
        rollouts = generate_batch(
            student,
            [row.prompt_ids for row in rows],
            seeds,
            self.config.rollout,
            stop_ids=self.stop_ids,
            pad_id=self.pad_id,
        )
        student.train()
        self.last_rollouts = list(zip(rows, rollouts, strict=True))
        return rollouts

    @torch.no_grad()
    def _teacher_target(
        self, rows: Sequence[RowView], rollouts: list[list[int]], width: int
    ) -> TeacherTarget:
        """The frozen base reads (r, answer, x) and then the student's own ids (eq. 7)."""
        assert self.teacher is not None
        batch = self._pad([row.teacher_ids for row in rows], rollouts, width)
        logits_BCV = self.teacher(**batch.model_inputs).logits[:, :-1]
        return teacher_target(logits_BCV, self.config.top_k)

    def _balance_weight(self, sft: torch.Tensor, kl: torch.Tensor) -> float:
        """lambda for this backward pass; the balance moves once per optimizer step."""
        losses = self.accelerator.reduce(torch.stack([sft.detach(), kl.detach()]), "mean")
        self.pending.append((losses[0].item(), losses[1].item()))
        before = self.balance.weight
        if not self.accelerator.sync_gradients:
            return before
        sft_mean, kl_mean = (fmean(values) for values in zip(*self.pending, strict=True))
        self.pending.clear()
        after = self.balance.update(sft_mean, kl_mean)
        return after if self.config.gradient_accumulation == 1 else before

    def _observe(
        self,
        sft: torch.Tensor,
        kl: torch.Tensor,
        weight: float,
        rollouts: list[list[int]],
        logits_BCV: torch.Tensor,
        batch: Padded,
        target: TeacherTarget,
    ) -> None:
        sft_value, kl_value, mask = sft.item(), kl.item(), batch.mask_BC
        stopped = sum(ids[-1] in self.stop_ids for ids in rollouts)
        values = {
            "loss_sft": sft_value,
            "loss_kl": kl_value,
            "lambda": weight,
            "ratio_sft_kl": sft_value / max(weight * kl_value, 1e-12),
            "teacher_mass_in_k": mean_over_sequences(target.mass_BT, mask).item(),
            "student_mass_in_k": mean_over_sequences(
                mass_on(logits_BCV, target.ids_BTK), mask
            ).item(),
            "student_entropy": mean_over_sequences(entropy(logits_BCV), mask).item(),
            "rollout_tokens": sum(map(len, rollouts)) / len(rollouts),
            "truncated_share": 1 - stopped / len(rollouts),
        }
        for name, value in values.items():
            self.window[name].append(value)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        means = {name: sum(values) / len(values) for name, values in self.window.items()}
        self.window.clear()
        super().log(logs | means, *args, **kwargs)
