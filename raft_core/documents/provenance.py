"""Which model, under which prompt, asked or voted: named, and by the digests of what it was."""

from __future__ import annotations

import hashlib
from typing import Any

from raft_core.documents.config import ProposerConfig, VoterConfig
from raft_core.engines.base import GeneratorConfig

DIGITS = 16


def asked_by(config: ProposerConfig | VoterConfig) -> dict[str, Any]:
    """Kind, model, prompt and seed."""
    text = config.prompt.load().text
    return {
        "kind": config.kind,
        **model_of(config.generator),
        "prompt": config.prompt.name,
        "prompt_digest": hashlib.sha256(text.encode()).hexdigest()[:DIGITS],
        "seed": config.sampling.seed,
    }


def model_of(generator: GeneratorConfig) -> dict[str, str]:
    """A model by name, with the digest of its files, its commit on the hub, or the version that
    the settings give for one behind an endpoint."""
    if generator.kind == "openai":
        return {"model": generator.model, "model_digest": generator.model_version}
    identity = generator.model.identity()
    digest = identity.get("digest") or identity["commit"]
    return {"model": generator.model.path, "model_digest": digest[:DIGITS]}
