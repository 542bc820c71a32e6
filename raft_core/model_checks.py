"""What can be wrong with a model's folder, found from its small files before anything is loaded.

Models of the hub are checked when they are loaded: their files are not here yet.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from raft_core.config import ModelRef
from raft_core.engines.base import TransformersConfig, VllmConfig
from raft_core.errors import InputError

CHAT_TEMPLATES = ("chat_template.jinja", "chat_template.json")
LARGEST_HEADER = 100 * 2**20  # what safetensors itself allows


def check_models(settings: Any) -> None:
    """Look at every model folder that settings name.

    Raises:
        InputError: the first thing that is wrong, with the model and the remedy.
    """
    for model in {ref.path: ref for ref in generators_of(settings)}.values():
        check_chat_model(model)


def generators_of(value: Any) -> Iterator[ModelRef]:
    """The models of all generators in settings, wherever they stand."""
    if isinstance(value, VllmConfig | TransformersConfig):
        yield value.model
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from generators_of(getattr(value, name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from generators_of(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from generators_of(item)


def check_chat_model(model: ModelRef) -> None:
    """Configuration, weights, tokenizer and chat template of a local folder.

    Raises:
        InputError: one is missing, torn, or not the model's.
    """
    if model.local_folder() is None:
        return
    folder, named = Path(model.resolve()), f"model '{model.path}'"
    config = read_object(folder / "config.json", named)
    if "auto_map" in config:
        raise InputError(
            f"{named} brings code of its own (auto_map in config.json), which is not run; give a "
            "model whose architecture transformers knows"
        )
    for weights in sorted(folder.glob("*.safetensors")):
        check_weights(weights, named)
    if not (folder / "tokenizer.json").is_file():
        raise InputError(f"{named}: '{folder}' has no tokenizer.json; save its tokenizer there")
    tokenizer = read_object(folder / "tokenizer.json", named)
    check_chat_template(folder, named)
    check_vocabulary(tokenizer, config, named)


def check_chat_template(folder: Path, named: str) -> None:
    if any((folder / name).is_file() for name in CHAT_TEMPLATES):
        return
    file = folder / "tokenizer_config.json"
    if not (file.is_file() and read_object(file, named).get("chat_template")):
        raise InputError(
            f"{named} has no chat template; RAFT needs an instruction-tuned model whose tokenizer "
            "carries one"
        )


def check_vocabulary(tokenizer: Mapping[str, Any], config: Mapping[str, Any], named: str) -> None:
    """Every token of the tokenizer must have a row in the model's embeddings."""
    text = config.get("text_config", config)
    size = text.get("vocab_size") if isinstance(text, Mapping) else None
    largest = largest_id(tokenizer)
    if isinstance(size, int) and largest >= size:
        raise InputError(
            f"{named}: its tokenizer knows token {largest}, its weights only {size} tokens; the "
            "tokenizer is another model's"
        )


def largest_id(tokenizer: Mapping[str, Any]) -> int:
    """The highest token id of a tokenizer.json."""
    vocabulary = tokenizer.get("model", {}).get("vocab", {})
    if isinstance(vocabulary, Mapping):
        ids = [i for i in vocabulary.values() if isinstance(i, int)]
    else:  # a list of (token, score): the place is the id
        ids = [len(vocabulary) - 1]
    added = [token.get("id", 0) for token in tokenizer.get("added_tokens", [])]
    return max([*ids, *added], default=0)


def check_weights(file: Path, named: str) -> None:
    """A safetensors file must be as long as its header says."""
    with open(file, "rb") as handle:
        size = int.from_bytes(handle.read(8), "little")
        header = handle.read(size) if size <= LARGEST_HEADER else b""
    try:
        tensors = json.loads(header)
        end = max(
            (entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"),
            default=0,
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InputError(f"{named}: '{file.name}' is no safetensors file; fetch it again") from None
    missing = 8 + size + end - file.stat().st_size
    if missing > 0:
        raise InputError(f"{named}: '{file.name}' lacks {missing:,} bytes; fetch it again")


def read_object(file: Path, named: str) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{named}: '{file}' cannot be read as JSON ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{named}: '{file}' holds no JSON object")
    return content
