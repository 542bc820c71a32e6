"""Make and keep the models and rows of the comparison of training steps.

Sizes name Llamas with random weights. Their tokenizer is the mini model's with entries that no text
makes use of, up to the vocabulary that a model of this size has: so the output layer weighs what it
weighs in practice.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from raft_core.config.base import PACKAGE_ROOT
from raft_core.data.records import write_jsonl
from raft_core.mini.world import domain_rows

MINI = PACKAGE_ROOT / "mini" / "base"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


@dataclass(frozen=True, slots=True)
class Shape:
    vocabulary: int
    hidden: int
    layers: int
    heads: int
    inner: int


SHAPES = {
    "5M": Shape(vocabulary=8_192, hidden=256, layers=4, heads=8, inner=704),
    "50M": Shape(vocabulary=32_000, hidden=512, layers=10, heads=8, inner=1_376),
}


def model_folder(name: str, folder: Path) -> Path:
    """Return the folder of the model `mini` or of a size, made below `folder` if missing."""
    if name == "mini":
        return MINI
    made = folder / f"llama-{name}"
    if not (made / "model.safetensors").is_file():
        write_model(SHAPES[name], made)
    return made


def write_model(shape: Shape, folder: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(shape.vocabulary, folder)
    mini = json.loads((MINI / "config.json").read_text())
    special = {name: mini[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=shape.vocabulary,
            hidden_size=shape.hidden,
            intermediate_size=shape.inner,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            dtype="float32",
            **special,
        )
    )
    model.save_pretrained(folder)


def write_tokenizer(vocabulary: int, folder: Path) -> None:
    """Write the mini model's tokenizer, with so many entries."""
    for name in TOKENIZER_FILES:
        shutil.copy(MINI / name, folder / name)
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    known = content["model"]["vocab"]
    known |= {f"unused{i}": i for i in range(len(known), vocabulary)}
    file.write_text(json.dumps(content, ensure_ascii=False))


def write_rows(file: Path, count: int, answers: int) -> None:
    """Write training rows of the embedded world; each holds so many questions and answers."""
    facts = [row for domain in ("law", "culture") for row in domain_rows(domain)]
    parts = [facts[i * answers : (i + 1) * answers] for i in range(count)]
    if any(len(part) < answers for part in parts):
        raise ValueError(f"{count} rows of {answers} answers are more than the world has")
    write_jsonl(
        file,
        (
            {
                "id": f"row-{i:04}",
                "question": " ".join(row["question"] for row in part),
                "answer": " ".join(row["answer"] for row in part),
            }
            for i, part in enumerate(parts)
        ),
    )
