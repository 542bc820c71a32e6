"""Which model, under which prompt, asked or voted: named, and by the digests of what it was."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from raft_core.config import fingerprint
from raft_core.documents.config import ProposerConfig, VoterConfig

DIGITS = 16


def asked_by(config: ProposerConfig | VoterConfig) -> dict[str, Any]:
    """Kind, model, prompt and seed. A local model's digest is that of its files."""
    generator = config.generator
    model = generator.model if isinstance(generator.model, str) else generator.model.path
    return {
        "kind": config.kind,
        "model": model,
        "model_digest": _digest(json.dumps(fingerprint(generator), sort_keys=True)),
        "prompt": config.prompt.name,
        "prompt_digest": _digest(config.prompt.load().text),
        "seed": config.sampling.seed,
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
