"""Measure the card's own rates, and check the project's arithmetic on it.

The losses are checked against dense ones in float64. The whole step is checked against the losses
of the same rows read one by one, without padding and without the trainer: whatever the trainer
packs, keeps or reorders has to give the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.gpu_card import Card
from benchmarks.gpu_cases import TINY, Sizes, TrainingCase
from benchmarks.gpu_training import trainer_of, write_model
from raft_core.distill.loss.chunked import Head
from raft_core.distill.loss.losses import (
    TeacherTarget,
    cross_entropy,
    teacher_target,
    topk_kl,
)

# ||found - wanted|| / ||wanted||; bfloat16 rounds every logit to 8 bits.
ALLOWED = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 2e-2}
CASES = 20
SINGLE = {"dtype": "float32", "draws": True, "recomputes": False, "weight": 10.0}
# In bfloat16 the teacher's K-th word may be another one; a wrong position or mask gives above 0.5.
STEPS = (
    (TrainingCase("all weights", rank=None, steps=1, **SINGLE), 1e-3),
    (TrainingCase("adapter", rank=4, steps=1, **SINGLE), 1e-3),
    (TrainingCase("prompts read before", rank=None, seen_before=True, steps=2, **SINGLE), 1e-3),
    (TrainingCase("bfloat16", rank=None, steps=1, **(SINGLE | {"dtype": "bfloat16"})), 0.3),
)


def rates(card: Card, sizes: Sizes) -> dict[str, Any]:
    """Measure operations a second of a square bfloat16 product, and bytes a second of a copy."""
    side = sizes.matmul
    left, right = (
        torch.randn(side, side, device=card.device, dtype=torch.bfloat16) for _ in range(2)
    )
    for _ in range(3):
        left @ right
    products = [card.seconds(lambda: left @ right) for _ in range(10)]
    source = torch.randn(side * side * 8, device=card.device)
    target = torch.empty_like(source)
    copies = [card.seconds(lambda: target.copy_(source)) for _ in range(5)]
    return {
        "matmul_flops": 2 * side**3 / median(products),
        "matmul_spread": [2 * side**3 / max(products), 2 * side**3 / min(products)],
        "copy_bytes": 2 * 4 * len(source) / median(copies),
        "card": card.describe(),
    }


@dataclass(frozen=True, slots=True)
class LossCase:
    """Random inputs of one check; all are exact in the type that is checked."""

    hidden_ND: torch.Tensor
    weight_VD: torch.Tensor
    teacher_ND: torch.Tensor
    labels_N: torch.Tensor
    weights_N: torch.Tensor
    top_k: int
    temperature: float
    tail: bool

    @classmethod
    def drawn(cls, seed: int, device: str, dtype: torch.dtype) -> LossCase:
        rng = torch.Generator().manual_seed(seed)

        def between(low: int, high: int) -> int:
            return int(torch.randint(low, high + 1, (), generator=rng))

        tokens, width, vocabulary = between(1, 200), between(8, 256), between(600, 5000)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=rng).to(device, dtype)

        wide = torch.float64 if dtype == torch.float64 else torch.float32
        return cls(
            hidden_ND=normal(tokens, width).requires_grad_(),
            weight_VD=(normal(vocabulary, width) * 2 / width**0.5).detach().requires_grad_(),
            teacher_ND=normal(tokens, width),
            labels_N=torch.randint(vocabulary, (tokens,), generator=rng).to(device),
            weights_N=torch.rand(tokens, generator=rng).to(device, wide),
            top_k=between(1, 512),
            temperature=1.5,
            tail=seed % 3 == 2,
        )

    def target(self) -> TeacherTarget:
        tail = self.temperature if self.tail else None
        return teacher_target(self.teacher_ND, Head(self.weight_VD.detach()), self.top_k, tail)

    def losses(self, target: TeacherTarget) -> torch.Tensor:
        """Return the project's loss: cross-entropy plus KL."""
        head = Head(self.weight_VD)
        kl = topk_kl(self.hidden_ND, head, target, self.weights_N, self.temperature)
        return cross_entropy(self.hidden_ND, head, self.labels_N, self.weights_N) + kl

    def dense(self, ids_NK: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Return the same loss in float64 over [N, V], with the leaves that its gradients go to."""
        leaves = tuple(
            x.detach().double().requires_grad_() for x in (self.hidden_ND, self.weight_VD)
        )
        student_NV = leaves[0] @ leaves[1].T
        teacher_NV = self.teacher_ND.double() @ leaves[1].detach().T
        cross_N = F.cross_entropy(student_NV, self.labels_N, reduction="none")
        log_p, log_q = (
            self._outcomes(logits_NV / self.temperature, ids_NK)
            for logits_NV in (student_NV, teacher_NV)
        )
        kl_N = self.temperature**2 * (log_q.exp() * (log_q - log_p)).sum(-1)
        return (self.weights_N.double() * (cross_N + kl_N)).sum(), leaves

    def _outcomes(self, logits_NV: torch.Tensor, ids_NK: torch.Tensor) -> torch.Tensor:
        kept_NK = logits_NV.gather(-1, ids_NK)
        if not self.tail:
            return kept_NK.log_softmax(-1)
        rest_NV = logits_NV.scatter(-1, ids_NK, -torch.inf)
        return torch.cat([kept_NK, rest_NV.logsumexp(-1, keepdim=True)], -1).log_softmax(-1)


def distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    found, wanted = found.detach().double(), wanted.detach().double()
    return ((found - wanted).norm() / wanted.norm().clamp_min(1e-30)).item()


def losses(card: Card, sizes: Sizes) -> dict[str, Any]:
    """Return the largest relative errors of 20 random cases in each type."""
    found = {}
    for dtype, allowed in ALLOWED.items():
        errors: dict[str, float] = {"loss": 0.0, "hidden": 0.0, "matrix": 0.0}
        for seed in range(CASES):
            case = LossCase.drawn(seed, card.device, dtype)
            target = case.target()
            loss = case.losses(target)
            loss.backward()
            wanted, leaves = case.dense(target.ids_NK)
            wanted.backward()
            pairs = {
                "loss": (loss, wanted),
                "hidden": (case.hidden_ND.grad, leaves[0].grad),
                "matrix": (case.weight_VD.grad, leaves[1].grad),
            }
            for name, (one, other) in pairs.items():
                assert one is not None
                assert other is not None
                errors[name] = max(errors[name], distance(one, other))
        right = all(error <= allowed for error in errors.values())
        found[str(dtype).removeprefix("torch.")] = {**errors, "allowed": allowed, "right": right}
    return {"cases": CASES, "types": found}


def step(card: Card, sizes: Sizes, work: Path) -> dict[str, Any]:
    """Compare the trainer's loss and gradients of one batch with those of its rows one by one."""
    shape, folder = TINY.large, work / "checked"
    write_model(folder, shape, card.device, spread=0.1)
    found = {}
    for case, allowed in STEPS:
        trainer = trainer_of(case, TINY, folder, card)
        errors = step_errors(trainer, getattr(torch, case.dtype))
        is_right = max(errors["loss"], errors["gradient"]) <= allowed
        found[case.name] = errors | {"allowed": allowed, "right": is_right}
    return found


def step_errors(trainer: Any, dtype: torch.dtype) -> dict[str, Any]:
    """Return the error of the loss, and of the parameter whose gradient is furthest off."""
    model = trainer.model.to(dtype).eval()  # trained weights are float32, whatever computes
    loss = trainer.compute_loss(model, {"rows": torch.arange(TINY.batch)})
    loss.backward()
    named = [(n, p) for n, p in model.named_parameters() if p.grad is not None]
    found = {name: parameter.grad.clone() for name, parameter in named}
    model.zero_grad()
    wanted = one_by_one(trainer, model)
    wanted.backward()
    errors = {n: distance(found[n], p.grad) for n, p in named if found[n].norm() > 0}
    worst = max(errors, key=lambda name: errors[name])
    return {"loss": distance(loss, wanted), "gradient": errors[worst], "worst": worst}


def one_by_one(trainer: Any, model: Any) -> torch.Tensor:
    """Return L_SFT + lambda L_KL by the equations, a row at a time."""
    config, rows = trainer.config, trainer.views[: TINY.batch]
    drawn = {id: ids for id, _, ids in trainer.rollouts.last}
    answer_tokens = sum(len(row.answer_ids) for row in rows)
    total = torch.zeros((), device=trainer.args.device)
    for row in rows:
        rollout = drawn[row.id]
        labels = torch.tensor(row.answer_ids, device=total.device)
        logits_CV = scores(model, row.prompt_ids, row.answer_ids, total.device)
        total = total + F.cross_entropy(logits_CV, labels, reduction="sum") / answer_tokens
        with torch.no_grad(), trainer.teacher.active() as teacher:
            teacher_CV = scores(teacher, row.teacher_ids, rollout, total.device)
        log_q, ids_CK = teacher_CV.topk(min(config.top_k, teacher_CV.shape[-1]), dim=-1)
        log_q = (log_q / config.temperature).log_softmax(-1)
        student_CV = scores(model, row.prompt_ids, rollout, total.device)
        log_p = (student_CV.gather(-1, ids_CK) / config.temperature).log_softmax(-1)
        kl_C = config.temperature**2 * (log_q.exp() * (log_q - log_p)).sum(-1)
        total = total + config.balance.fixed * kl_C.mean() / len(rows)
    return total


def scores(model: Any, prefix: list[int], ids: list[int], device: torch.device) -> torch.Tensor:
    """Return the logits [C, V] that predict `ids` after a prefix."""
    whole = torch.tensor([[*prefix, *ids]], device=device)
    logits_TV = model(input_ids=whole, use_cache=False).logits[0]
    return logits_TV[len(prefix) - 1 : -1].float()


def run_case(name: str, sizes: Sizes, card: Card, work: Path) -> dict[str, Any]:
    if name == "rates":
        return rates(card, sizes)
    return losses(card, sizes) if name == "losses" else step(card, sizes, work)
