"""What a trained model was made from, as digests: data, base, settings and code.

Two runs with equal lineage would make the same model, so the second one need not be made.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from raft_core.app.pipeline import DOCUMENTS, STAGES
from raft_core.app.settings import Settings
from raft_core.config.base import fingerprint

NOT_SETTINGS = {"profile", "runtime", "domain", "engine", "lineage"}
# Stages that tell of a run and decide nothing of its model.
NO_PART = {"lineage", *(stage.name for stage in DOCUMENTS)}
DIGITS = 16


def lineage(settings: Settings) -> dict[str, str]:
    """Digests by name: `dataset`, `base_model`, `config`, `code`.

    `code` stands for the versions of all stages from a domain's rows on, which change when their
    results do.
    """
    off = {"guard"} if settings.guard is None else set()
    fields = set(type(settings).model_fields) - NOT_SETTINGS - off
    config = {name: fingerprint(getattr(settings, name), name) for name in fields}
    engine = settings.engine.model_dump(exclude={"model"})
    versions = {n: stage.version for n, stage in STAGES.items() if n not in NO_PART}
    return {
        "dataset": _digest(fingerprint(settings.domain, "domain")),
        "base_model": _digest(fingerprint(settings.base, "engine.model")),
        "config": _digest(config | {"engine": engine}),
        "code": _digest(versions),
    }


def _digest(value: Any) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:DIGITS]
