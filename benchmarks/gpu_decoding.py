"""Compare drawing rollouts on a GPU by `transformers.generate`, RAFT's loop and its CUDA graph.

All draw from the same student, prompts and seeds to the full length, so that every way computes the
same number of positions. That the graph draws the tokens of the loop is checked in float32, where a
tie by rounding is as good as impossible.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks.gpu_card import GIB, Card, tried
from benchmarks.gpu_cases import NO_TIME, TINY, Shape, Sizes, TrainingCase
from benchmarks.gpu_training import give_rollouts, trainer_of, write_model
from raft_core.engines.base import Sampling
from raft_core.engines.decoding import decode
from raft_core.engines.graph_decoding import GraphDecoder, can_capture
from raft_core.engines.transformers import generate

STOP_IDS = (3, 17, 29, 101)
ROUNDS = 3
LIMIT = 30.0  # seconds; the section has somewhat more
Draw = Callable[..., list[list[int]]]


def tokens(card: Card, work: Path) -> dict[str, Any]:
    """Check that the graph draws the loop's tokens: a small float32 model, weights changed between.

    Without a graph (it could not be captured) they are the same, and `captured` says so.
    """
    folder = work / "decoded"
    write_model(folder, TINY.large, card.device, spread=0.3)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    model = model.to(card.device).eval()
    batches = [
        [[5, 9, 11, 4, 20, 31], [7], [8, 40, 22], list(range(33, 43))],
        [[5, 9], [12, 7]],
        [[*range(5, 150)], [6, 7, 8], [9]],
    ]
    decoder, same, captured = GraphDecoder(), [], []
    for factor in (1.0, 1.2):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(factor)
        for prompts in batches:
            options: dict[str, Any] = {"stop_ids": list(STOP_IDS), "pad_id": 0}
            arguments = (model, prompts, range(len(prompts)), Sampling(max_tokens=60))
            found = decoder.decode(*arguments, **options)
            same.append(found == decode(*arguments, **options))
            captured.append(decoder.is_captured)
    return {
        "calls": len(same),
        "same": sum(same),
        "captured": sum(captured),
        "can_capture": can_capture(model),
        "failure": decoder.failure,
    }


def speed(sizes: Sizes, shape: Shape, folder: Path, card: Card) -> dict[str, Any]:
    """Measure seconds a position by the trainer's own student; leave out what is past `LIMIT`."""
    started = card.clock()
    trainer = trainer_of(TrainingCase("decoding", steps=1), sizes, folder, card)
    give_rollouts(trainer, sizes, shape.vocabulary)
    trainer.train()
    student = trainer.accelerator.unwrap_model(trainer.model_wrapped).eval()
    prompts = [view.prompt_ids for view in trainer.views]
    base, decoder = student.get_base_model(), GraphDecoder()
    ways: list[tuple[str, Any, Draw, int]] = [
        ("graph", base, decoder.decode, ROUNDS),
        ("loop", base, decode, 1),
        ("generate", student, generate, 1),
    ]
    found: dict[str, Any] = {}

    def measure(kind: str, rows: int) -> None:
        for name, model, draw, rounds in ways:
            if card.clock() - started > LIMIT:
                found[f"{kind}, {name}"] = {"error": NO_TIME}
                continue
            found[f"{kind}, {name}"] = timed(card, sizes, model, draw, prompts[:rows], rounds)
            if name == "graph":
                kept = {"gib": decoder.bytes / GIB, "captured": decoder.is_captured}
                found[f"{kind}, {name}"] |= kept | {"failure": decoder.failure}
                decoder.free()
                card.clear()

    measure("adapter", len(prompts))
    student.merge_adapter()
    measure("adapter merged", len(prompts))
    student.unmerge_adapter()
    return {"rows": len(prompts), "ways": found}


def timed(
    card: Card, sizes: Sizes, model: Any, draw: Draw, prompts: Sequence[list[int]], rounds: int
) -> dict[str, Any]:
    """Time the first draw, one that only reads the prompts, and positions after it."""

    def once(length: int) -> tuple[float, int]:
        sampling = Sampling(temperature=1.0, max_tokens=length)
        started = card.clock()
        drawn = draw(model, prompts, range(len(prompts)), sampling, stop_ids=[3], pad_id=0)
        return card.clock() - started, max(map(len, drawn))

    def all_of_it() -> dict[str, Any]:
        first, _ = once(sizes.decoded)
        reading, _ = once(1)
        rest = [once(sizes.decoded) for _ in range(rounds)]
        seconds = [(whole - reading) / max(1, length - 1) for whole, length in rest]
        return {"first": first, "reading": reading, "seconds": seconds}

    found, error = tried(card, all_of_it)
    return {"error": error} if error else found


def run_case(name: str, sizes: Sizes, card: Card, work: Path) -> dict[str, Any]:
    if name == "tokens":
        return tokens(card, work)
    folder = work / sizes.large.name
    write_model(folder, sizes.large, card.device)
    card.clear()
    return speed(sizes, sizes.large, folder, card)
