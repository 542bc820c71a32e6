"""MLflow's model registry: versions of a domain's model, and which of them is in use.

Unlike tracking, a registry that cannot be asked is an error: a promotion must be on record.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import wraps
from typing import Any, TypeVar

from raft_core.config.runtime import RuntimeConfig
from raft_core.errors import InputError, StageError, first_line
from raft_core.refine.prepare import DOMAIN_NAME
from raft_core.store.artifacts import ArtifactRef
from tasks.tracking.connection import open_client
from tasks.tracking.masking import masked
from tasks.tracking.server import refused
from tasks.tracking.stage_run import LOGGED_MODEL_LIMIT_BYTES

CHAMPION, CHALLENGER = "champion", "challenger"
LINEAGE, REPLACED, DECISION, ROLLED_BACK = (
    f"raft.{name}" for name in ("lineage", "replaced", "decision", "rolled_back")
)
ATTEMPTS, PAUSE_SECONDS = 4, 5.0
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Version:
    """One registered model."""

    name: str
    number: str
    tags: Mapping[str, str]

    @property
    def lineage(self) -> dict[str, str]:
        return {
            tag.removeprefix(f"{LINEAGE}."): value
            for tag, value in self.tags.items()
            if tag.startswith(f"{LINEAGE}.")
        }

    @property
    def decision(self) -> str:
        """`promoted` or `refused`; empty where a run ended before it was decided."""
        return self.tags.get(DECISION, "")

    def artifact(self, role: str) -> tuple[str, str]:
        """Stage and key of the artifact that played this role (`prepared`, `trained`)."""
        stage, _, key = self.tags[f"raft.{role}"].partition("/")
        return stage, key


def asking(method: Callable[..., Result]) -> Callable[..., Result]:
    """Try again where the registry is away; MLflow's last error becomes this package's."""

    @wraps(method)
    def guarded(*args: Any, **kwargs: Any) -> Result:
        from mlflow.exceptions import MlflowException

        for left in reversed(range(ATTEMPTS)):
            try:
                return method(*args, **kwargs)
            except MlflowException as error:
                if left == 0 or refused(error):
                    told = masked(error.message)
                    raise StageError(f"MLflow's model registry: {told}") from error
                time.sleep(PAUSE_SECONDS)
        raise AssertionError("unreachable")

    return guarded


class Registry:
    """The versions of one domain's model."""

    def __init__(self, runtime: RuntimeConfig, domain: str) -> None:
        from mlflow.exceptions import MlflowException

        if not re.fullmatch(DOMAIN_NAME, domain):
            raise InputError(f"domain '{domain[:80]}': a domain's name matches {DOMAIN_NAME}")
        self.name, self._uri = f"raft-{domain}", runtime.tracking_uri
        try:
            self._client = open_client(runtime)
        except MlflowException as error:
            raise InputError(
                f"MLflow at {masked(self._uri)} cannot be used: {first_line(error.message)}; "
                "mend runtime.mlflow_uri or MLFLOW_TRACKING_URI"
            ) from None

    @asking
    def champion(self) -> Version | None:
        """The version in use."""
        found = self._versions()
        number = self._registered().aliases.get(CHAMPION) if found else None
        return next((v for v in found if v.number == str(number)), None)

    @asking
    def versions(self) -> list[Version]:
        """All of them, the one that was registered last first."""
        return sorted(self._versions(), key=lambda v: int(v.number), reverse=True)

    @asking
    def register(
        self,
        trained: ArtifactRef,
        experiment_id: str,
        run_id: str,
        artifacts: Mapping[str, ArtifactRef],
        lineage: Mapping[str, str],
    ) -> Version:
        """A new version, as the challenger; `artifacts` by the role that they play."""
        if not self._is_known():
            self._client.create_registered_model(self.name)
        model = self._logged_model(trained, experiment_id, run_id)
        tags = {f"raft.{role}": f"{ref.stage}/{ref.key}" for role, ref in artifacts.items()}
        tags |= {f"{LINEAGE}.{name}": digest for name, digest in lineage.items()}
        made = self._client.create_model_version(
            self.name,
            source=self._source(model),
            run_id=run_id,
            tags=tags,
            model_id=model.model_id,
        )
        self._client.set_registered_model_alias(self.name, CHALLENGER, str(made.version))
        return Version(self.name, str(made.version), tags)

    @asking
    def decide(self, version: Version, *, promote: bool) -> Version:
        """Put the decision on record; a promoted version becomes the champion."""
        told = {DECISION: "promoted" if promote else "refused"}
        champion = self.champion() if promote else None
        if champion is not None and champion.number != version.number:
            told[REPLACED] = champion.number
        for name, value in told.items():
            self._client.set_model_version_tag(self.name, version.number, name, value)
        if promote:
            self._client.set_registered_model_alias(self.name, CHAMPION, version.number)
            self._client.delete_registered_model_alias(self.name, CHALLENGER)
        return replace(version, tags={**version.tags, **told})

    @asking
    def roll_back(self) -> tuple[Version, Version]:
        """Make the champion's predecessor the champion again; returns both, the new one last.

        Raises:
            InputError: there is no champion, or none before it.
        """
        champion = self.champion()
        if champion is None:
            raise InputError(f"model '{self.name}' has no champion")
        replaced = champion.tags.get(REPLACED)
        before = next((v for v in self._versions() if v.number == replaced), None)
        if before is None:
            raise InputError(
                f"model '{self.name}': version {champion.number} is the first champion; "
                "there is none to go back to"
            )
        self._client.set_registered_model_alias(self.name, CHAMPION, before.number)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._client.set_model_version_tag(self.name, champion.number, ROLLED_BACK, now)
        return champion, before

    def _is_known(self) -> bool:
        return bool(self._client.search_registered_models(f"name = '{self.name}'"))

    def _registered(self) -> Any:
        return self._client.get_registered_model(self.name)

    def _versions(self) -> list[Version]:
        found = self._client.search_model_versions(f"name = '{self.name}'")
        return [Version(self.name, str(v.version), dict(v.tags)) for v in found]

    def _logged_model(self, trained: ArtifactRef, experiment_id: str, run_id: str) -> Any:
        """The checkpoint as MLflow's logged model, logged now where it was not."""
        found = self._client.search_logged_models(
            [experiment_id], filter_string=f"tags.`raft.key` = '{trained.key}'", max_results=1
        )
        if found:
            return found[0]
        model = self._client.create_logged_model(
            experiment_id=experiment_id,
            name=re.sub(r"\W+", "-", self.name),
            source_run_id=run_id,
            tags={"raft.key": trained.key},
            model_type="causal-lm",
        )
        checkpoint = trained.folder / "checkpoint"
        size = sum(p.stat().st_size for p in checkpoint.rglob("*") if p.is_file())
        if size <= LOGGED_MODEL_LIMIT_BYTES:
            self._client.log_model_artifacts(model.model_id, str(checkpoint))
        else:  # the weights stay in the store, the record says which they are
            record = trained.folder / "record.json"
            self._client.log_model_artifact(model.model_id, str(record))
        return self._client.finalize_logged_model(model.model_id, "READY")

    def _source(self, model: Any) -> str:
        """Where a version's files are.

        A server refuses a folder and looks the model up itself; a database without a server would
        look it up in MLflow's default place.
        """
        served = self._uri.startswith(("http://", "https://"))
        return f"models:/{model.model_id}" if served else str(model.artifact_location)
