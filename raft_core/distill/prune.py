"""Stage `prune`: FAPM takes back most of what fine-tuning changed (Huang, Cheng, Wang 2025).

For every weight matrix, with dW = W - W0 in float32, an entry's score is
|dW| - mean(|W0|) * |dW| / |W0|: a large change counts for it, a large change relative to the weight
that it changes against it. The entries with the highest scores keep their change, all others
return to W0. Vectors (norms, biases) keep what training made of them.
"""

from __future__ import annotations

import json
import shutil
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from raft_core.distill.config import PruneStage
from raft_core.distill.weight_distance import relative_distances
from raft_core.engines.chat import load_tokenizer
from raft_core.execution.stage import StageRun, writing_model

SMALLEST = 1e-12
COPIED = ("summary.json", "counts.json", "rejected.jsonl", "curves.jsonl", "rollouts.jsonl")


def run(stage: StageRun) -> None:
    """Writes checkpoint/ and weight_distance.json; all else is the training's."""
    config: PruneStage = stage.config
    trained_folder = stage.inputs["distill"]
    trained = _load(str(trained_folder / "checkpoint"), None)
    dtype = trained.config.dtype
    trained = trained.float()
    base = _load(config.model.resolve(), config.model.revision).float()
    before = dict(base.named_parameters())
    stage.progress.start("prune", len(before))
    with torch.no_grad():
        for name, weight in trained.named_parameters():
            if weight.dim() >= 2:
                weight.copy_(pruned(weight, before[name], config.prune.sparsity))
            stage.progress.advance()
    distances = relative_distances(trained, base)
    (stage.out / "weight_distance.json").write_text(json.dumps(distances, indent=1))
    with writing_model(stage.out, "the training's artifact is kept"):
        trained.to(dtype).save_pretrained(stage.out / "checkpoint")
        load_tokenizer(config.model).save_pretrained(stage.out / "checkpoint")
        for name in COPIED:
            shutil.copyfile(trained_folder / name, stage.out / name)


def _load(path: str, revision: str | None) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        path, revision=revision, use_safetensors=True, trust_remote_code=False
    )


def pruned(weight: torch.Tensor, base: torch.Tensor, sparsity: float) -> torch.Tensor:
    """A matrix in which the share `sparsity` of the change with the lowest scores is taken back.

    Entries whose base weight is 0 have an unbounded relative change and go first. Returns float32.
    """
    weight, base = weight.float(), base.float()
    change, size = weight - base, base.abs()
    score = change.abs() - size.mean() * change.abs() / size.clamp_min(SMALLEST)
    dropped = int(sparsity * score.numel())
    if dropped == 0:
        return weight
    threshold = score.flatten().kthvalue(dropped).values
    return torch.where(score > threshold, weight, base)
