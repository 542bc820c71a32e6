"""The trainer on the embedded base: the objective in place, what a run leaves, and resuming."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from raft_core.config.runtime import RuntimeConfig
from raft_core.data.records import read_jsonl
from raft_core.distill import distill as distill_stage
from raft_core.distill.config import MethodConfig
from raft_core.distill.loss.balance import AdaptiveBalance
from raft_core.distill.models import load_model
from raft_core.distill.teacher import FrozenCopy
from raft_core.execution.stage import StageRun
from tests.integration.training import (
    RAFT,
    SFT,
    STEPS,
    draw,
    losses_of,
    settings,
    stage_run,
    trainer_for,
    weights,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> StageRun:
    stage = stage_run(tmp_path_factory.mktemp("raft"), settings())
    distill_stage.run(stage)
    return stage


def test_distill_leaves_checkpoint_curves_rollouts_and_distances(finished: StageRun) -> None:
    curves = list(read_jsonl(finished.out / "curves.jsonl"))
    assert [point["step"] for point in curves] == list(range(1, STEPS + 1))
    assert set(curves[0]) >= {
        "loss", "loss_sft", "loss_kl", "lambda", "ratio_sft_kl", "teacher_mass_in_k",
        "student_mass_in_k", "student_entropy", "rollout_tokens", "truncated_share",
    }  # fmt: skip
    assert all(point["loss_kl"] > 0 for point in curves)
    assert len(list(read_jsonl(finished.out / "rollouts.jsonl"))) == 4
    distances = json.loads((finished.out / "weight_distance.json").read_text())
    assert all(0 < distance < 1 for distance in distances.values())
    counts = json.loads((finished.out / "counts.json").read_text())
    assert counts == {"in": 16, "kept": 16, "rejected": {}}


def test_distill_first_weight_is_the_ratio_of_the_first_losses(finished: StageRun) -> None:
    first = next(iter(read_jsonl(finished.out / "curves.jsonl")))
    expected = min(first["loss_sft"] / first["loss_kl"], 10.0)
    assert first["lambda"] == pytest.approx(expected, rel=1e-4)
    assert first["loss"] == pytest.approx(
        first["loss_sft"] + first["lambda"] * first["loss_kl"], rel=1e-3
    )


def test_distill_artifact_holds_no_pickle(finished: StageRun) -> None:
    suffixes = {path.suffix for path in finished.out.rglob("*") if path.is_file()}
    assert suffixes <= {".json", ".jsonl", ".safetensors", ".jinja"}


def test_distill_same_seed_same_weights_to_the_byte(finished: StageRun, tmp_path: Path) -> None:
    again = stage_run(tmp_path, settings())
    distill_stage.run(again)
    assert weights(again) == weights(finished)


def test_distill_sft_has_no_teacher_and_no_rollouts(tmp_path: Path) -> None:
    stage = stage_run(tmp_path, settings(SFT))
    distill_stage.run(stage)
    curves = list(read_jsonl(stage.out / "curves.jsonl"))
    assert all("loss_kl" not in point for point in curves)
    assert curves[-1]["loss"] < curves[0]["loss"]
    assert not list(read_jsonl(stage.out / "rollouts.jsonl"))


@pytest.mark.parametrize("method", [SFT, RAFT], ids=["sft", "raft"])
def test_distill_accumulated_batch_equals_the_whole(tmp_path: Path, method: MethodConfig) -> None:
    """lambda is fixed: under the moving average it lags one step where parts are accumulated."""
    curves = []
    for accumulation in (1, 2):
        config = settings(
            method, gradient_accumulation=accumulation, epochs=1, balance={"rule": "fixed"}
        )
        stage = stage_run(tmp_path / str(accumulation), config)
        distill_stage.run(stage)
        curves.append(losses_of(stage))
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)


@pytest.mark.parametrize("rows", [16, 14])
def test_distill_balance_moves_once_per_optimizer_step(
    tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    updates: list[int] = []
    plain = AdaptiveBalance.update

    def counted(self: AdaptiveBalance, sft: float, kl: float) -> float:
        updates.append(1)
        return plain(self, sft, kl)

    monkeypatch.setattr(AdaptiveBalance, "update", counted)
    config = settings(gradient_accumulation=2, epochs=2)
    stage = stage_run(tmp_path, config, rows)
    distill_stage.run(stage)
    steps = json.loads((stage.out / "summary.json").read_text())["steps"]
    assert len(updates) == steps == 8  # 16 rows: 4 steps an epoch; 14 rows: 3 and one of half size


def test_rollouts_come_from_the_model_not_from_its_generation_config(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path)
    plain = draw(trainer, trainer.views[:4])
    trainer.model.generation_config.repetition_penalty = 5.0
    assert draw(trainer, trainer.views[:4]) == plain
    assert trainer.model.generation_config.repetition_penalty == 5.0


@torch.no_grad()
def log_probabilities(model: Any, prefix: list[int], ids: list[int]) -> torch.Tensor:
    """float64 logits [T, V] that predict `ids` after `prefix`: one row, no padding."""
    logits_TV = model(input_ids=torch.tensor([prefix + ids])).logits[0].double()
    return logits_TV[len(prefix) - 1 : -1]


def test_compute_loss_equals_row_by_row_reference_without_padding(tmp_path: Path) -> None:
    """Eqs. 6-12 by plain loops: the student after x, the teacher after (r, answer, x)."""
    trainer = trainer_for(tmp_path)
    with torch.no_grad():  # a student that differs from its teacher
        for parameter in trainer.model.parameters():
            parameter.mul_(1.02)
    loss = trainer.compute_loss(trainer.model, {"rows": torch.tensor([0, 5, 9])})
    trainer.model.eval()
    cross_entropies, divergences, config = [], [], trainer.config
    assert trainer.rollouts is not None
    teacher = load_model(settings(), RuntimeConfig(device="cpu"), "float32")
    views = {view.id: view for view in trainer.views}
    for id, _, rollout in trainer.rollouts.last:
        view = views[id]
        answer_TV = log_probabilities(trainer.model, view.prompt_ids, view.answer_ids)
        picked = answer_TV.log_softmax(-1)[range(len(view.answer_ids)), view.answer_ids]
        cross_entropies.extend((-picked).tolist())
        student_TV = log_probabilities(trainer.model, view.prompt_ids, rollout)
        teacher_TV = log_probabilities(teacher, view.teacher_ids, rollout)
        tokens = []
        for student_V, teacher_V in zip(student_TV, teacher_TV, strict=True):
            kept = teacher_V.argsort(descending=True)[: config.top_k]
            q = (teacher_V / config.temperature).softmax(-1)[kept]
            p = (student_V / config.temperature).softmax(-1)[kept]
            q, p = q / q.sum(), p / p.sum()
            tokens.append(float((q * (q / p).log()).sum()))
        divergences.append(config.temperature**2 * sum(tokens) / len(tokens))
    sft = sum(cross_entropies) / len(cross_entropies)
    kl = sum(divergences) / len(divergences)
    assert trainer.window["loss_sft"][0] == pytest.approx(sft, rel=1e-4)
    assert trainer.window["loss_kl"][0] == pytest.approx(kl, rel=1e-3)
    assert loss.item() == pytest.approx(sft + min(sft / kl, 10.0) * kl, rel=1e-3)


def test_compute_loss_gradient_reaches_the_student_and_not_the_teacher(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path)
    trainer.compute_loss(trainer.model, {"rows": torch.tensor([0, 1])}).backward()
    assert all(p.grad is not None for p in trainer.model.parameters())
    assert isinstance(trainer.teacher, FrozenCopy)
    frozen = trainer.teacher.model.parameters()
    assert not any(p.requires_grad or p.grad is not None for p in frozen)


def test_rollouts_depend_on_step_row_and_seed_not_on_the_batch(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path)
    rows = trainer.views[:3]
    together = draw(trainer, rows)
    assert [draw(trainer, [row])[0] for row in rows] == together
    assert draw(trainer, rows, step=1) != together
