"""What is known of a model without loading it: its shape, where that stands, and its tokenizer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from raft_core.config.base import ModelRef
from raft_core.cost.shapes import BUILT_IN, EXACT, ModelShape, shape_of
from raft_core.engines.base import OpenAIConfig, TransformersConfig, VllmConfig

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class KnownModel:
    """`folder` holds its configuration (and tokenizer), `source` says where the shape is from."""

    name: str
    shape: ModelShape | None
    source: str
    folder: Path | None
    dtype: str = "bfloat16"

    def bytes_per_weight(self, dtype: str) -> int:
        """Under a setting's type; `auto` is the type that its own configuration names."""
        return BYTES.get(self.dtype if dtype == "auto" else dtype, 2)

    def weight_bytes(self, dtype: str) -> int | None:
        """What its weights take, or None where their number is not known."""
        return None if self.shape is None else self.shape.parameters * self.bytes_per_weight(dtype)

    def told(self) -> str:
        """One line for people."""
        if self.shape is None:
            return f"{self.name}: size unknown ({self.source})"
        return f"{self.name}: {self.shape.parameters:,} parameters ({self.source})"


def known_model(ref: ModelRef) -> KnownModel:
    """What this machine knows of a model, by its folder, the hub's cache, or the table here."""
    folder = ref.local_folder() or cached_folder(ref)
    if folder is not None and (folder / "config.json").is_file():
        return _by_config(ref, folder)
    if ref.path in BUILT_IN:
        said = "not on this machine; sizes of its config.json as built in here"
        return KnownModel(ref.path, BUILT_IN[ref.path], said, folder)
    return KnownModel(ref.path, None, "not on this machine, and not built in here", folder)


def _by_config(ref: ModelRef, folder: Path) -> KnownModel:
    where = "its config.json" if ref.local_folder() else "config.json in the hub's cache"
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return KnownModel(ref.path, None, f"{where} cannot be read", folder)
    shape = shape_of(config)
    dtype = str(config.get("dtype") or config.get("torch_dtype") or "bfloat16")
    if shape is None:
        kind = config.get("model_type", "unnamed")
        return KnownModel(ref.path, None, f"family '{kind}' is not counted here", folder, dtype)
    if shape.family not in EXACT:
        where += f", family '{shape.family}' counted like a Llama"
    if not any(folder.glob("*.safetensors")):
        where += ", weights not on this machine"
    return KnownModel(ref.path, shape, where, folder, dtype)


def cached_folder(ref: ModelRef) -> Path | None:
    """The snapshot of a hub model in the hub's cache, as far as it is there; asks no network."""
    from huggingface_hub import try_to_load_from_cache

    for name in ("config.json", "tokenizer.json"):
        found = try_to_load_from_cache(ref.path, name, revision=ref.revision)
        if isinstance(found, str):
            return Path(found).parent
    return None


def generator_model(config: VllmConfig | TransformersConfig | OpenAIConfig) -> ModelRef | None:
    """The weights that a generator loads here; None for an endpoint."""
    return None if isinstance(config, OpenAIConfig) else config.model
