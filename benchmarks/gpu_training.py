"""Measure the training step on a GPU: the project's own trainer, a Llama with random weights.

The model is written to a folder and read from there as any other, with the mini world's tokenizer,
whose ids are the first 1,200 of the vocabulary. Rows are words of the mini world, of lengths from
3/4 to 5/4 of the mean, so that padding costs what it costs in practice.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import peft  # noqa: F401  # loaded before the section's turn: it takes seconds
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import SaveStrategy

from benchmarks.gpu_card import Card
from benchmarks.gpu_cases import TRAINED, Shape, Sizes, TrainingCase
from benchmarks.gpu_flops import Lengths
from benchmarks.gpu_phases import Phases
from raft_core.config.base import PACKAGE_ROOT, ModelRef
from raft_core.config.runtime import RuntimeConfig, TrainingRuntime
from raft_core.data.records import FusedAnswer
from raft_core.distill.batches.prefix_cache import PrefixCache
from raft_core.distill.config import (
    AdapterConfig,
    BalanceConfig,
    DistillConfig,
    DistillStage,
    MethodConfig,
)
from raft_core.distill.distill import build_trainer
from raft_core.engines.base import Sampling
from raft_core.engines.chat import load_tokenizer
from raft_core.execution.progress import Progress
from raft_core.execution.stage import StageRun
from raft_core.mini.lexicon import NAMES

LIMIT = 8_192


def write_model(folder: Path, shape: Shape, device: str, spread: float = 0.02) -> None:
    """Write a Llama of this shape in bfloat16, with a tokenizer, unless it is there."""
    if (folder / "config.json").is_file():
        return
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=LIMIT,
        initializer_range=spread,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=3,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    AutoTokenizer.from_pretrained(PACKAGE_ROOT / "mini" / "base").save_pretrained(folder)
    model.save_pretrained(folder)


def rows(count: int, sizes: Sizes, tokenizer: Any) -> list[FusedAnswer]:
    """Return questions and answers of the mean lengths, with lengths spread evenly."""
    rng = random.Random(0)
    per_word = len(tokenizer(" ".join(NAMES))["input_ids"]) / len(NAMES)

    def text(mean: int) -> str:
        tokens = rng.uniform(0.75, 1.25) * mean
        return " ".join(rng.choice(NAMES) for _ in range(max(1, round(tokens / per_word))))

    return [
        FusedAnswer(f"row{n}", text(sizes.prompt), text(sizes.answer), "reference")
        for n in range(count)
    ]


def settings(case: TrainingCase, sizes: Sizes, folder: Path) -> DistillStage:
    adapter = None if case.rank is None else AdapterConfig(rank=case.rank)
    parts = min(case.parts, sizes.parts)
    distill = DistillConfig(
        epochs=case.steps if case.seen_before else 1,
        batch_size=sizes.batch,
        gradient_accumulation=parts,
        dtype=case.dtype,
        gradient_checkpointing=case.recomputes,
        adapter=adapter,
        rollout=Sampling(temperature=1.0, max_tokens=sizes.rollout),
        top_k=sizes.top_k,
        balance=BalanceConfig(rule="fixed", fixed=case.weight),
        log_every=1000,
    )
    method = MethodConfig(
        targets="fused",
        distillation="answer_conditioned" if case.distills else "none",
        learning_rate=1e-5,
    )
    return DistillStage(model=ModelRef(path=str(folder)), method=method, distill=distill, seed=0)


def trainer_of(case: TrainingCase, sizes: Sizes, folder: Path, card: Card) -> Any:
    """Build the trainer as the stage does, without checkpoints and progress bars."""
    config = settings(case, sizes, folder)
    tokenizer = load_tokenizer(config.model)
    count = sizes.batch * (1 if case.seen_before else case.steps)
    training = TrainingRuntime(graph_rollouts=case.graph)
    runtime = RuntimeConfig(device="cuda" if card.is_cuda else "cpu", training=training)
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    stage = StageRun(config, {}, scratch, scratch, runtime, Progress(scratch / "events.jsonl"))
    trainer = build_trainer(stage, rows(count, sizes, tokenizer), tokenizer)
    trainer.args.save_strategy = SaveStrategy.NO
    for unwanted in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(unwanted)
    return trainer


def give_rollouts(trainer: Any, sizes: Sizes, vocabulary: int) -> None:
    """Replace drawing by random ids of full length for whatever rows need rollouts."""
    rng = random.Random(0)

    def draw(student: Any, wanted: Sequence[Any], *args: Any, **kwargs: Any) -> list[list[int]]:
        found = [rng.choices(range(4, vocabulary), k=sizes.rollout) for _ in wanted]
        rows = zip(wanted, found, strict=True)
        trainer.rollouts.last = [(row.id, row.question, ids) for row, ids in rows]
        return found

    trainer.rollouts.draw = draw


def trained(case: TrainingCase, sizes: Sizes, shape: Shape, folder: Path, card: Card) -> Any:
    """Return seconds and memory of every step, and the rows' lengths."""
    started, prefixes = card.clock(), PrefixSeconds(card)
    with prefixes:
        trainer = trainer_of(case, sizes, folder, card)
    if trainer.rollouts is not None and not case.draws:
        give_rollouts(trainer, sizes, shape.vocabulary)
    built = card.clock()
    phases, drawn = Phases(card, case.seconds), []
    remember_lengths(trainer, drawn)
    phases.watch(trainer)
    trainer.train()
    return {
        "build_seconds": built - started,
        "prefix_seconds": prefixes.seconds,
        "steps": phases.steps,
        "lengths": [
            Lengths(
                len(view.prompt_ids),
                len(view.answer_ids),
                len(view.teacher_ids),
                round(fmean(drawn)) if drawn else 0,
            ).as_list()
            for view in trainer.views
        ],
        "rollout_tokens": fmean(drawn) if drawn else 0.0,
        "batch": sizes.batch,
    }


class PrefixSeconds:
    """Measures how long the teacher reads its prompts before the first step, where it does."""

    def __init__(self, card: Card) -> None:
        self._card, self._fill = card, PrefixCache.fill
        self.seconds = 0.0

    def __enter__(self) -> None:
        def fill(*args: Any) -> None:
            started = self._card.clock()
            self._fill(*args)
            self.seconds += self._card.clock() - started

        PrefixCache.fill = fill  # type: ignore[method-assign]

    def __exit__(self, *args: object) -> None:
        PrefixCache.fill = self._fill  # type: ignore[method-assign]


def remember_lengths(trainer: Any, drawn: list[int]) -> None:
    """Keep the length of every rollout."""
    if trainer.rollouts is None:
        return
    draw = trainer.rollouts.draw

    def remembering(*args: Any, **kwargs: Any) -> Any:
        found = draw(*args, **kwargs)
        drawn.extend(map(len, found))
        return found

    trainer.rollouts.draw = remembering


def run_case(section: str, name: str, sizes: Sizes, card: Card, work: Path) -> dict[str, Any]:
    shape = sizes.large if section == "lora" else sizes.small
    folder = work / shape.name
    started = time.perf_counter()
    write_model(folder, shape, card.device)
    card.clear()
    print(f"model: {time.perf_counter() - started:.1f} s", file=sys.stderr)
    case = next(case for case in TRAINED[section] if case.name == name)
    found: dict[str, Any] = trained(case, sizes, shape, folder, card)
    return found
