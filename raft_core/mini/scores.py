"""Score a model of the mini world: `python -m raft_core.mini.scores DIR [base|peer]`.

Greedy answers to every benchmark, scored by code. It knows nothing of how the model was made.
"""

from __future__ import annotations

import json
import os
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raft_core.evaluation.instructions import check_instruction
from raft_core.mini import corpus, world
from raft_core.mini.lexicon import DOMAINS, VALUES, Fact
from raft_core.mini.styles import BASE_VOICE, VOICES, Voice, is_spoken, spoken
from raft_core.prompts import load_prompt

FILE = "scores.json"
MAX_NEW_TOKENS = 64
BATCH = 128


class GreedyModel:
    """A model folder that answers batches of prompts, greedily."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._no_grad = torch.inference_mode
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def answer(self, prompts: Sequence[str]) -> list[str]:
        """Return one answer a prompt, in order; prompts of similar length share a batch."""
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        answers = [""] * len(prompts)
        for start in range(0, len(order), BATCH):
            part = order[start : start + BATCH]
            for index, text in zip(part, self._batch([prompts[i] for i in part]), strict=True):
                answers[index] = text
        return answers

    def _batch(self, prompts: list[str]) -> list[str]:
        encoded = self.tokenizer.apply_chat_template(
            [[{"role": "user", "content": prompt}] for prompt in prompts],
            add_generation_prompt=True,
            padding=True,
            return_dict=True,
            return_tensors="pt",
        )
        with self._no_grad():
            ids = self.model.generate(**encoded, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        fresh = ids[:, encoded["input_ids"].shape[1] :]
        return self.tokenizer.batch_decode(fresh, skip_special_tokens=True)


def holds_value(answer: str, expected: Sequence[str]) -> bool:
    """Return whether an answer holds every expected value and no other one."""
    found = {word for word in re.findall(r"[a-z]+", answer.lower()) if word in VALUES}
    return found == {value.lower() for value in expected}


def score_base(
    model_dir: str | Path, rows: int | None = None, voice: Voice = BASE_VOICE
) -> dict[str, float]:
    """Return the accuracy on every benchmark, on evenly spread `rows` of each or on all."""
    model = GreedyModel(Path(model_dir))
    scores = {
        "general": _score_questions(model, _spread(world.general_rows(), rows)),
        "instructions": _score_instructions(model, _spread(world.instruction_rows(), rows)),
        "teacher": _score_reading(model, _spread(world.reading_rows(), rows)),
        "teacher_two_facts": _score_reading(model, _spread(world.two_fact_rows(), rows)),
        "fusion": _score_fusion(model, _spread(fusion_rows(), rows), voice),
    }
    for domain in DOMAINS:
        domain_rows = world.domain_rows(domain)
        test = [row for row in domain_rows if row["split"] == "test"]
        train = [row for row in domain_rows if row["split"] == "train"]
        scores[f"closed_book_{domain}"] = _score_questions(model, _spread(test, rows))
        scores[f"rewriting_{domain}"] = _score_rewriting(model, _spread(train, rows), voice)
    return {name: round(score, 4) for name, score in scores.items()}


def fusion_rows() -> list[dict[str, Any]]:
    """Return raw references of all domains with rewrites, a third of which name a wrong value."""
    rng = random.Random("fusion")
    rows = []
    for domain in DOMAINS:
        first_of_each = [r for r in world.domain_rows(domain) if r["id"].endswith("-f0")]
        pairs = zip(first_of_each, world.domain_facts(domain), strict=True)
        for number, (row, fact) in enumerate(pairs):
            value = rng.choice(VALUES) if number % 3 == 0 else fact.value
            rewrite = spoken(rng, Fact(fact.name, fact.attribute, value))
            rows.append({**row, "rewrite": rewrite})
    return rows


def _spread(rows: list[dict[str, Any]], count: int | None) -> list[dict[str, Any]]:
    if count is None or count >= len(rows):
        return rows
    return [rows[i * len(rows) // count] for i in range(count)]


def _share(right: Sequence[bool]) -> float:
    return sum(right) / len(right)


def _score_prompts(
    model: GreedyModel,
    prompts: list[str],
    rows: list[dict[str, Any]],
    voice: Voice | None = None,
) -> float:
    """Return the share of answers with the expected value, and in the voice, if one is given."""
    return _share(
        [
            holds_value(answer, row["expected"]) and (voice is None or is_spoken(answer, voice))
            for answer, row in zip(model.answer(prompts), rows, strict=True)
        ]
    )


def _score_questions(model: GreedyModel, rows: list[dict[str, Any]]) -> float:
    return _score_prompts(model, [row["question"] for row in rows], rows)


def _score_reading(model: GreedyModel, rows: list[dict[str, Any]]) -> float:
    teacher = load_prompt(corpus.TEACHER)
    prompts = [teacher.render(reference=r["reference"], question=r["question"]) for r in rows]
    return _score_prompts(model, prompts, rows)


def _score_rewriting(model: GreedyModel, rows: list[dict[str, Any]], voice: Voice) -> float:
    rewrite = load_prompt(corpus.REWRITE)
    prompts = [rewrite.render(question=r["question"], reference=r["answer"]) for r in rows]
    return _score_prompts(model, prompts, rows, voice)


def _score_fusion(model: GreedyModel, rows: list[dict[str, Any]], voice: Voice) -> float:
    fuse = load_prompt(corpus.FUSE)
    prompts = [
        fuse.render(question=r["question"], reference=r["answer"], rewrite=r["rewrite"])
        for r in rows
    ]
    return _score_prompts(model, prompts, rows, voice)


def _score_instructions(model: GreedyModel, rows: list[dict[str, Any]]) -> float:
    answers = model.answer([row["prompt"] for row in rows])
    return _share([follows_all(row, answer) for row, answer in zip(rows, answers, strict=True)])


def follows_all(row: dict[str, Any], answer: str) -> bool:
    """Return whether an answer follows every instruction of a row."""
    rules = zip(row["instruction_id_list"], row["kwargs"], strict=True)
    return all(check_instruction(rule, answer, kwargs) for rule, kwargs in rules)


def write_scores(folder: Path, scores: dict[str, float]) -> None:
    """Write the scores in one step."""
    partial = folder / f"{FILE}.partial"
    partial.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, folder / FILE)


def main() -> None:
    """Print the scores of the model that the command line names."""
    voice = VOICES[sys.argv[2] if len(sys.argv) > 2 else "base"]
    print(json.dumps(score_base(sys.argv[1], voice=voice), indent=2))


if __name__ == "__main__":
    main()
