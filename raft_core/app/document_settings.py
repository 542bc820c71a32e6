"""Settings of a preparation of documents: a profile of `conf/documents/`, and overrides.

How the machine executes is the `runtime` of the pipeline's profile of the same name, on which the
documents' profile may change something. Importing this loads neither torch nor vllm.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator

from raft_core.app.checks import require_endpoint_keys
from raft_core.app.model_checks import check_models
from raft_core.app.settings import CONF, conf_file, domain_name, require_named_endpoints
from raft_core.config.base import FrozenConfig, fingerprint, pinned
from raft_core.config.layers import Layer, deep_merge, name_of, parse_override, read_yaml, readable
from raft_core.config.runtime import RuntimeConfig
from raft_core.documents.config import (
    AskConfig,
    AskStage,
    PairsStage,
    PassagesConfig,
    PassagesStage,
    Positive,
    VoteConfig,
    VoteStage,
)
from raft_core.documents.reading import read_documents
from raft_core.documents.sources import DocumentSource
from raft_core.errors import InputError
from raft_core.execution.shards import Shard


class DocumentSettings(FrozenConfig):
    """All settings of a preparation of documents."""

    profile: str
    documents: DocumentSource
    limit: Positive | None = None
    passages: PassagesConfig = PassagesConfig()
    ask: AskConfig
    vote: VoteConfig
    runtime: RuntimeConfig = RuntimeConfig()

    @model_validator(mode="after")
    def _endpoints_exist(self) -> DocumentSettings:
        require_named_endpoints(self, self.runtime)
        return self

    @property
    def name(self) -> str:
        """Readable name: the last folder and the name of what the documents lie in."""
        path = self.documents.path
        if self.documents.is_mini:
            return re.sub(r"[^a-z0-9]+", "-", path.lower())
        return domain_name(path)

    def passages_stage(self) -> PassagesStage:
        """Return the configuration of `passages`."""
        return PassagesStage(documents=self.documents, limit=self.limit, passages=self.passages)

    def ask_stage(self, shard: Shard) -> AskStage:
        """Return the configuration of one shard of `ask`."""
        return AskStage(proposer=self.ask.proposer, shard=shard)

    def vote_stage(self) -> VoteStage:
        """Return the configuration of `vote`."""
        return VoteStage(vote=self.vote)

    def pairs_stage(self) -> PairsStage:
        """Return the configuration of `pairs`."""
        return PairsStage()


def load_document_settings(
    profile: str = "mini",
    documents: str | None = None,
    overrides: Iterable[str] = (),
    *,
    limit: int | None = None,
) -> DocumentSettings:
    """Compose `conf/PROFILE.yaml`'s runtime, `conf/documents/PROFILE.yaml` and overrides.

    `profile` is a name or the path of a YAML file, `documents` a file, a folder or a glob, and
    `limit` the number of documents.

    Raises:
        InputError: with the file, the field and the remedy.
    """
    file = conf_file(profile, CONF / "documents", "profile")
    layers = [Layer(f"{CONF / file.name}, runtime", {"runtime": machine_of(file)})]
    layers.append(Layer(str(file), read_yaml(file) | {"profile": file.stem}))
    if documents is not None:
        layers.append(Layer(f"documents {documents}", {"documents": {"path": documents}}))
    if limit is not None:
        layers.append(Layer(f"limit {limit}", {"limit": limit}))
    layers += [
        Layer(f"setting {name_of(override)}", parse_override(override)) for override in overrides
    ]
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = deep_merge(merged, layer.values)
    try:
        return DocumentSettings.model_validate(merged)
    except ValidationError as error:
        raise InputError(readable(error, [layers[1], layers[0], *layers[2:]])) from None


def machine_of(file: Path) -> Mapping[str, Any]:
    """Return the runtime of the pipeline's profile of this name, if there is one.

    Raises:
        InputError: the section holds no fields.
    """
    pipeline = CONF / file.name
    runtime = read_yaml(pipeline).get("runtime", {}) if pipeline.is_file() else {}
    if not isinstance(runtime, Mapping):
        raise InputError(f"{pipeline}: field 'runtime' must hold fields and values")
    return runtime


def checked_documents(settings: DocumentSettings) -> DocumentSettings:
    """Check documents, endpoints and models; return the settings with hub commits pinned.

    Raises:
        InputError: the first thing that is wrong.
    """
    longest = settings.passages.max_document_characters
    usable, rejected = read_documents(settings.documents, longest, settings.limit)
    if not usable:
        first = rejected[0]
        raise InputError(
            f"documents '{settings.documents.path}': none of {len(rejected)} can be used, the "
            f"first, '{first.id}', is {first.reason} ({first.detail})"
        )
    require_endpoint_keys(settings, settings.runtime)
    check_models(settings)
    at_commits: DocumentSettings = pinned(settings)
    fingerprint(at_commits.model_copy(update={"runtime": RuntimeConfig()}))
    return at_commits
