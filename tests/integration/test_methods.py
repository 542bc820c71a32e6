"""The trainer beyond plain RAFT: LoRA, vLLM rollouts, rehearsal, other teachers, options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from raft_core.config.base import digest_file
from raft_core.config.runtime import RuntimeConfig
from raft_core.data.records import read_jsonl
from raft_core.distill import distill as distill_stage
from raft_core.distill import prune as pruning
from raft_core.distill.config import DistillStage, MethodConfig, PruneConfig, PruneStage
from raft_core.distill.models import load_model
from raft_core.distill.rollout.rollout import TransformersRollouts, VllmRollouts, student_weights
from raft_core.distill.teacher import DisabledAdapter
from raft_core.engines.base import Sampling
from raft_core.engines.transformers import generate_batch
from raft_core.errors import InputError
from raft_core.execution.stage import StageRun
from tests.integration.training import (
    RAFT,
    SFT,
    draw,
    losses_of,
    settings,
    stage_run,
    trainer_for,
    weights,
)

CPU = RuntimeConfig(device="cpu")
LORA = {"rank": 4, "alpha": 8}
ON_POLICY = MethodConfig(targets="fused", distillation="unconditioned", learning_rate=1e-3)
REHEARSAL = {"data": "mini:rehearsal", "share": 0.5}


def with_rehearsal(**changes: Any) -> MethodConfig:
    values = RAFT.model_dump() | {"rehearsal": REHEARSAL} | changes
    return MethodConfig.model_validate(values)


def run(folder: Path, config: DistillStage) -> StageRun:
    stage = stage_run(folder, config)
    distill_stage.run(stage)
    return stage


@torch.no_grad()
def probe(model: Any) -> torch.Tensor:
    """Logits on a few fixed ids."""
    ids: torch.Tensor = model(input_ids=torch.arange(40, 60)[None]).logits
    return ids.clone()


def test_lora_teacher_never_moves_and_only_the_adapter_changes(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, settings(adapter=LORA))
    assert isinstance(trainer.teacher, DisabledAdapter)
    with trainer.teacher.active() as teacher:
        before = probe(teacher)
    named = dict(trainer.model.named_parameters())
    frozen = {name: p.detach().clone() for name, p in named.items() if "lora_" not in name}
    student_before = probe(trainer.model)
    trainer.train()
    with trainer.teacher.active() as teacher:
        assert torch.equal(probe(teacher), before)
    assert not torch.equal(probe(trainer.model), student_before)
    assert all(torch.equal(named[name], before) for name, before in frozen.items())
    assert any(p.abs().sum() > 0 for name, p in named.items() if "lora_B" in name)


def test_full_fine_tuning_teacher_never_moves(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path)
    assert trainer.teacher is not None
    with trainer.teacher.active() as teacher:
        before = probe(teacher)
    trainer.train()
    with trainer.teacher.active() as teacher:
        assert torch.equal(probe(teacher), before)


def test_lora_checkpoint_is_the_merged_model_beside_its_adapter(tmp_path: Path) -> None:
    stage = run(tmp_path, settings(adapter=LORA))
    assert (stage.out / "adapter" / "adapter_model.safetensors").is_file()
    merged = AutoModelForCausalLM.from_pretrained(stage.out / "checkpoint")
    base = load_model(stage.config, CPU, "float32")
    assert set(dict(merged.named_parameters())) == set(dict(base.named_parameters()))
    assert not torch.allclose(probe(merged), probe(base))
    distances = json.loads((stage.out / "weight_distance.json").read_text())
    moved = {name for name, distance in distances.items() if distance > 0}
    assert moved
    assert all("proj" in name for name in moved)


def test_lora_first_step_has_the_losses_of_full_fine_tuning(tmp_path: Path) -> None:
    """Before any update the adapter is nothing: same student, same rollouts, same teacher."""
    full = losses_of(run(tmp_path / "full", settings()))
    lora = losses_of(run(tmp_path / "lora", settings(adapter=LORA)))
    assert lora[0] == pytest.approx(full[0], rel=1e-5)


def test_lora_cut_off_and_run_again_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(adapter=LORA)
    resumed = cut_and_resumed(tmp_path / "cut", config, monkeypatch)
    assert weights(resumed) == weights(run(tmp_path / "whole", config))


@pytest.mark.timeout(400)
def test_vllm_rollouts_follow_the_students_weights(tmp_path: Path) -> None:
    """After a sync the engine answers as the changed student does, not as the base."""
    trainer = trainer_for(tmp_path, settings(SFT))
    prompts = [view.prompt_ids for view in trainer.views[:16]]
    stop_ids, pad_id = [trainer.processing_class.eos_token_id], trainer.batching.pad_id
    greedy = Sampling(temperature=0, max_tokens=24)

    def by_transformers() -> list[list[int]]:
        trainer.model.eval()
        return generate_batch(
            trainer.model, prompts, [0] * 16, greedy, stop_ids=stop_ids, pad_id=pad_id
        )

    engine = VllmRollouts(settings().model, "float32", 256, greedy, stop_ids, CPU)
    untrained = by_transformers()
    assert engine.sample(trainer.model, prompts, [0] * 16) == untrained
    trainer.train()
    trained = by_transformers()
    assert trained != untrained
    assert engine.sample(trainer.model, prompts, [0] * 16) == trained
    assert "lm_head.weight" in student_weights(trainer.model)

    drawing = Sampling(temperature=1.0, max_tokens=24)
    sampler = VllmRollouts.__new__(VllmRollouts)
    sampler._engine, sampler._sampling, sampler._stop_ids = engine._engine, drawing, stop_ids
    seeds = list(range(16))
    together = sampler.sample(trainer.model, prompts, seeds)
    assert together == sampler.sample(trainer.model, prompts, seeds)
    assert together[:3] == sampler.sample(trainer.model, prompts[:3], seeds[:3])
    assert together != sampler.sample(trainer.model, prompts, [seed + 99 for seed in seeds])


def test_unconditioned_teacher_kl_is_zero_before_any_update(tmp_path: Path) -> None:
    """It reads what the student reads, and the student still is the base."""
    stage = run(tmp_path, settings(ON_POLICY, balance={"rule": "fixed"}))
    first, *_, last = list(read_jsonl(stage.out / "curves.jsonl"))
    assert first["loss_kl"] == pytest.approx(0, abs=1e-6)
    assert last["loss_kl"] > 1e-4


def test_rehearsal_takes_its_share_of_the_rollouts(tmp_path: Path) -> None:
    stage = run(tmp_path, settings(with_rehearsal()))
    curves = list(read_jsonl(stage.out / "curves.jsonl"))
    assert curves[0]["loss_rehearsal"] == pytest.approx(0, abs=1e-6)
    assert all(
        {"loss_kl", "lambda_rehearsal", "rollout_tokens_rehearsal"} <= set(p) for p in curves
    )
    drawn = [row["id"] for row in read_jsonl(stage.out / "rollouts.jsonl")]
    assert sum(name.startswith("rehearsal") for name in drawn) == 2
    assert len(drawn) == 4


def test_rehearsal_beside_plain_sft(tmp_path: Path) -> None:
    stage = run(tmp_path, settings(with_rehearsal(distillation="none")))
    point = next(iter(read_jsonl(stage.out / "curves.jsonl")))
    assert "loss_rehearsal" in point
    assert "loss_kl" not in point


@pytest.mark.parametrize(
    "option", [{"tail_bucket": True}, {"skip_first": 3}, {"rollout_uses": 2}], ids=str
)
def test_option_trains_and_changes_the_result(
    tmp_path: Path, option: dict[str, Any], plain: str
) -> None:
    stage = run(tmp_path, settings(epochs=2, **option))
    assert weights(stage) != plain


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    return weights(run(tmp_path_factory.mktemp("plain"), settings(epochs=2)))


def test_prune_stage_takes_back_nine_tenths_of_the_change(tmp_path: Path) -> None:
    stage = run(tmp_path, settings(SFT))
    config = PruneStage(model=stage.config.model, prune=PruneConfig())
    (tmp_path / "pruned").mkdir()
    pruned = StageRun(
        config, {"distill": stage.out}, tmp_path / "pruned", stage.scratch, CPU, stage.progress
    )
    pruning.run(pruned)
    base = dict(load_model(stage.config, CPU, "float32").named_parameters())
    result = AutoModelForCausalLM.from_pretrained(pruned.out / "checkpoint")
    for name, weight in result.named_parameters():
        if weight.dim() >= 2:
            assert (weight != base[name]).float().mean().item() <= 0.1001
    assert digest_file(pruned.out / "checkpoint" / "model.safetensors") != weights(stage)
    assert (pruned.out / "summary.json").read_text() == (stage.out / "summary.json").read_text()


def test_model_that_caps_its_logits_is_refused(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, settings(SFT))
    plain = trainer.model.forward

    def capped(*args: Any, **kwargs: Any) -> Any:
        output = plain(*args, **kwargs)
        output.logits = torch.tanh(output.logits)
        return output

    trainer.model.forward = capped
    with pytest.raises(InputError, match="changes its logits after the output layer"):
        trainer.train()


def test_adapter_on_the_output_layer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"adapter\.modules names the output layer"):
        trainer_for(tmp_path, settings(adapter=LORA | {"modules": ["q_proj", "lm_head"]}))


@pytest.mark.parametrize(
    ("share", "accumulation"), [(1.0, 1), (0.5, 4), (0.3, 1)], ids=["all", "none", "part"]
)
def test_rehearsal_share_that_leaves_no_whole_rows_is_refused(
    tmp_path: Path, share: float, accumulation: int
) -> None:
    method = with_rehearsal(rehearsal=REHEARSAL | {"share": share})
    with pytest.raises(InputError, match=r"rehearsal\.share"):
        trainer_for(tmp_path, settings(method, gradient_accumulation=accumulation))


def test_lora_checkpoint_keeps_the_models_stop_tokens(tmp_path: Path) -> None:
    """Rollouts sample without the model's own generation config, and give it back."""
    trainer = trainer_for(tmp_path, settings(adapter=LORA))
    before = trainer.model.get_base_model().generation_config.to_dict()
    draw(trainer, trainer.views[:2])
    assert trainer.model.get_base_model().generation_config.to_dict() == before
    assert before["eos_token_id"] is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"rollout_uses": 2},
        {},
        {"rollout_ahead": 2, "gradient_accumulation": 2},
        {"rollout_ahead": 1, "rollout_uses": 2},
    ],
    ids=["uses", "rehearsal", "ahead", "ahead and uses"],
)
def test_cut_off_and_run_again_ends_with_the_same_weights(
    tmp_path: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(with_rehearsal(), **changes)
    assert weights(cut_and_resumed(tmp_path / "cut", config, monkeypatch)) == weights(
        run(tmp_path / "whole", config)
    )


@pytest.mark.parametrize(
    ("changes", "sizes"),
    [
        ({}, [4] * 6),
        ({"gradient_accumulation": 2}, [4] * 6),
        # Four steps an epoch: three at once, the fourth alone, then the two that are left.
        ({"rollout_ahead": 2, "gradient_accumulation": 2}, [12, 4, 8]),
    ],
    ids=["a step", "its parts", "steps ahead"],
)
def test_rollouts_of_all_parts_and_steps_ahead_are_drawn_in_one_batch(
    tmp_path: Path, changes: dict[str, Any], sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def sample(self: Any, student: Any, prompts: Any, seeds: Any) -> list[list[int]]:
        drawn.append(len(prompts))
        return [[5, 6] for _ in prompts]

    monkeypatch.setattr(TransformersRollouts, "sample", sample)
    trainer_for(tmp_path, settings(with_rehearsal(), **changes)).train()
    assert drawn == sizes


def cut_and_resumed(
    folder: Path, config: DistillStage, monkeypatch: pytest.MonkeyPatch
) -> StageRun:
    """A training that stops after its third step and is started again."""

    class Cut(Exception):
        pass

    def cut(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 3:
            raise Cut

    stage = stage_run(folder, config)
    with monkeypatch.context() as patch:
        patch.setattr(distill_stage.CurveCallback, "on_step_end", cut)
        with pytest.raises(Cut):
            distill_stage.run(stage)
    distill_stage.run(stage)
    return stage
