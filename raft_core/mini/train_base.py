"""Train an embedded model from nothing: `python -m raft_core.mini.train_base --out DIR`.

A model of about a million parameters, the base or its peer of another family, learns `corpus` in
its own voice on the CPU: processes of one thread each, gradients summed over gloo. (Two threads in
one process fall tenfold when a neighbour runs.) Every step's samples depend only on the seed, the
process and the step, so a run resumes from its checkpoint as if it had not stopped. It knows
neither the domains nor the benchmarks, which `scores` measures at the end.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist
import torch.nn.functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from raft_core.config.runtime import KEEP_MEMORY
from raft_core.execution.launcher import ON_LOOPBACK
from raft_core.mini import corpus
from raft_core.mini.architectures import new_model
from raft_core.mini.model_card import write_card
from raft_core.mini.scores import score_base, write_scores
from raft_core.mini.styles import VOICES
from raft_core.mini.tokenizer import build_tokenizer

IGNORED = -100


@dataclass(frozen=True)
class Recipe:
    """Everything that the result depends on."""

    name: str = "base"
    tokens: int = 36_000_000
    seed: int = 0
    step_tokens: int = 4096
    micro_batch_tokens: int = 640
    learning_rate: float = 2.5e-3
    warmup_steps: int = 100
    flat_share: float = 0.4
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0

    @property
    def steps(self) -> int:
        """Number of optimizer steps."""
        return max(1, self.tokens // self.step_tokens)

    def rate(self, step: int) -> float:
        """Return a step's learning rate: warm up, stay flat, then fall linearly to a fiftieth."""
        flat_until = max(self.warmup_steps, int(self.flat_share * self.steps))
        fallen = max(0, step - flat_until) / max(1, self.steps - flat_until)
        share = min(1.0, (step + 1) / self.warmup_steps, 1 - 0.98 * fallen)
        return self.learning_rate * share


def encode(
    tokenizer: PreTrainedTokenizerFast, chats: list[corpus.Chat]
) -> list[tuple[list[int], int]]:
    """Return each chat's token ids, and how many of them are its prompt."""
    prompts = [
        tokenizer.apply_chat_template(c.messages()[:1], add_generation_prompt=True, tokenize=False)
        for c in chats
    ]
    prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    answer_ids = tokenizer([c.answer for c in chats], add_special_tokens=False)["input_ids"]
    end = [tokenizer.eos_token_id]
    return [(p + a + end, len(p)) for p, a in zip(prompt_ids, answer_ids, strict=True)]


def micro_batches(
    tokenizer: PreTrainedTokenizerFast, recipe: Recipe, rank: int, processes: int, step: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield one process's share of one step as (ids, labels), chats of similar length together."""
    rng = random.Random(f"{recipe.seed} {rank} {step}")
    budget = recipe.step_tokens // processes
    voice = VOICES[recipe.name]
    chats = [corpus.sample(rng, voice) for _ in range(budget // 40)]
    encoded, used = [], 0
    for ids, prompt_length in encode(tokenizer, chats):
        if used >= budget:
            break
        used += len(ids)
        encoded.append((ids, prompt_length))
    encoded.sort(key=lambda pair: len(pair[0]))
    count = max(1, round(used / recipe.micro_batch_tokens))
    for part in range(count):
        rows = encoded[len(encoded) * part // count : len(encoded) * (part + 1) // count]
        yield pad(rows, tokenizer.pad_token_id)


def pad(rows: list[tuple[list[int], int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad rows on the right, which needs no mask: causal attention never looks there."""
    width = max(len(ids) for ids, _ in rows)
    ids_BL = torch.full((len(rows), width), pad_id)
    labels_BL = torch.full((len(rows), width), IGNORED)
    for row, (ids, prompt_length) in enumerate(rows):
        ids_BL[row, : len(ids)] = torch.tensor(ids)
        labels_BL[row, prompt_length : len(ids)] = torch.tensor(ids[prompt_length:])
    return ids_BL, labels_BL


def answer_loss(
    model: PreTrainedModel, ids_BL: torch.Tensor, labels_BL: torch.Tensor
) -> torch.Tensor:
    """Return the summed cross-entropy of the answers; logits only where an answer is predicted."""
    hidden_BLD = model.model(input_ids=ids_BL, use_cache=False).last_hidden_state
    wanted_BL = labels_BL[:, 1:] != IGNORED
    logits_NV = model.lm_head(hidden_BLD[:, :-1][wanted_BL])
    return F.cross_entropy(logits_NV, labels_BL[:, 1:][wanted_BL], reduction="sum")


class Trainer:
    """One process's model, optimizer and place in the run."""

    def __init__(self, recipe: Recipe, out: Path, rank: int, processes: int) -> None:
        self.recipe, self.out, self.rank, self.processes = recipe, out, rank, processes
        self.tokenizer = build_tokenizer(VOICES[recipe.name])
        self.model = new_model(recipe.name, self.tokenizer, recipe.seed)
        self.parameters = list(self.model.parameters())
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=recipe.learning_rate,
            betas=recipe.betas,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self.checkpoint = out.with_name(out.name + ".checkpoint.pt")
        self.step = 0
        if self.checkpoint.is_file():
            state = torch.load(self.checkpoint)
            if state["recipe"] != asdict(recipe):
                raise ValueError(f"{self.checkpoint} is of another recipe; remove it")
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]

    def train_step(self) -> tuple[float, int]:
        """Make one step; return loss per answer token and tokens read, over all processes."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.step)
        totals = torch.zeros(3)  # loss, answer tokens, all tokens
        batches = micro_batches(self.tokenizer, self.recipe, self.rank, self.processes, self.step)
        for ids_BL, labels_BL in batches:
            loss = answer_loss(self.model, ids_BL, labels_BL)
            loss.backward()
            read = (ids_BL != self.tokenizer.pad_token_id).sum()
            totals += torch.stack([loss.detach(), (labels_BL != IGNORED).sum(), read])
        self._sum_over_processes(totals)
        torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        return (totals[0] / totals[1]).item(), int(totals[2])

    def _sum_over_processes(self, totals: torch.Tensor) -> None:
        grads = [parameter.grad for parameter in self.parameters]
        flat = torch.cat([totals, *(grad.flatten() for grad in grads)])
        if self.processes > 1:
            dist.all_reduce(flat)
        totals.copy_(flat[:3])
        flat /= totals[1]
        offset = 3
        for grad in grads:
            grad.copy_(flat[offset : offset + grad.numel()].view_as(grad))
            offset += grad.numel()

    def save_checkpoint(self) -> None:
        """Write model, optimizer and step in one step."""
        state = {
            "recipe": asdict(self.recipe),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.checkpoint)


def export(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write the model folder beside its place, then move each file in."""
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    out.mkdir(parents=True, exist_ok=True)
    for file in sorted(partial.iterdir()):
        file.chmod(0o644)
        os.replace(file, out / file.name)
    partial.rmdir()


def _run(rank: int, processes: int, recipe: Recipe, out: Path, every: int, meeting: str) -> None:
    torch.set_num_threads(1)
    if processes > 1:
        os.environ |= ON_LOOPBACK
        dist.init_process_group(
            "gloo", store=dist.FileStore(meeting, processes), rank=rank, world_size=processes
        )
    trainer = Trainer(recipe, out, rank, processes)
    started, read = time.monotonic(), 0
    while trainer.step < recipe.steps:
        loss, tokens = trainer.train_step()
        read += tokens
        if rank == 0 and (trainer.step % 50 == 0 or trainer.step == recipe.steps):
            speed = read / (time.monotonic() - started)
            left = (recipe.steps - trainer.step) * recipe.step_tokens / speed
            print(
                f"step {trainer.step}/{recipe.steps} loss {loss:.4f} "
                f"{speed:,.0f} tokens/s {left / 60:.1f} min left",
                flush=True,
            )
        if rank == 0 and (trainer.step % every == 0 or trainer.step == recipe.steps):
            trainer.save_checkpoint()
            export(trainer.model, trainer.tokenizer, out)
            _report(trainer)
    if processes > 1:
        dist.destroy_process_group()


def _report(trainer: Trainer) -> None:
    """Score the model on 60 rows a benchmark; at the end on all, and write scores and card."""
    finished = trainer.step == trainer.recipe.steps
    scores = score_base(trainer.out, None if finished else 60, VOICES[trainer.recipe.name])
    print("scores " + " ".join(f"{k} {v:.3f}" for k, v in scores.items()), flush=True)
    if finished:
        write_scores(trainer.out, scores)
        write_card(
            trainer.out,
            scores,
            name=trainer.recipe.name,
            parameters=trainer.model.num_parameters(),
            tokens=trainer.recipe.tokens,
            rate=trainer.recipe.learning_rate,
            seed=trainer.recipe.seed,
        )


def main() -> None:
    """Train as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", choices=VOICES, default=Recipe.name)
    parser.add_argument("--tokens", type=int, default=Recipe.tokens)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--every", type=int, default=400, help="steps between checkpoints")
    args = parser.parse_args()
    os.environ |= {**KEEP_MEMORY, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    recipe = Recipe(name=args.model, tokens=args.tokens, seed=args.seed)
    with TemporaryDirectory() as folder:
        rest = (args.processes, recipe, args.out, args.every, f"{folder}/meeting")
        torch.multiprocessing.spawn(_run, args=rest, nprocs=args.processes)


if __name__ == "__main__":
    main()
