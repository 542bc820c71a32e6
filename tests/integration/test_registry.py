"""Versions of a model in a real MLflow registry: promoted, refused, rolled back."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from raft_core.config.runtime import RuntimeConfig
from raft_core.errors import InputError, StageError
from raft_core.store.artifacts import ArtifactRef
from tasks.tracking import Registry, Version

LINEAGE = {"dataset": "d1", "base_model": "b1", "config": "c1", "code": "v1"}


class Models:
    """A registry of one domain, and checkpoints to register."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.uri = folder, f"sqlite:///{folder / 'mlflow.db'}"
        self.client = MlflowClient(self.uri)
        self.experiment = self.client.create_experiment("raft", (folder / "artifacts").as_uri())
        self.registry = Registry(RuntimeConfig(mlflow_uri=self.uri), "law")

    def register(self, key: str, **lineage: str) -> Version:
        checkpoint = self.folder / key / "checkpoint"
        checkpoint.mkdir(parents=True)
        (checkpoint / "config.json").write_text("{}")
        trained = ArtifactRef(stage="distill", key=key, path=str(self.folder / key))
        run = self.client.create_run(self.experiment)
        roles = {
            "trained": trained,
            "prepared": ArtifactRef(stage="prepare", key=f"p-{key}", path=""),
        }
        return self.registry.register(
            trained, self.experiment, run.info.run_id, roles, LINEAGE | lineage
        )

    def promoted(self, key: str) -> Version:
        return self.registry.decide(self.register(key), promote=True)


@pytest.fixture
def models(tmp_path: Path) -> Models:
    return Models(tmp_path)


def champion(models: Models) -> str | None:
    found = models.registry.champion()
    return None if found is None else found.number


def test_registry_without_a_version_has_no_champion(models: Models) -> None:
    assert models.registry.champion() is None
    assert models.registry.versions() == []
    with pytest.raises(InputError, match="no champion"):
        models.registry.roll_back()


def test_registry_version_holds_what_it_was_made_from(models: Models) -> None:
    models.register("k1", dataset="d2")
    (version,) = models.registry.versions()
    assert version.lineage == LINEAGE | {"dataset": "d2"}
    assert version.artifact("trained") == ("distill", "k1")
    assert version.artifact("prepared") == ("prepare", "p-k1")
    assert version.decision == ""
    assert champion(models) is None


def test_registry_checkpoint_can_be_downloaded_by_its_alias(models: Models) -> None:
    models.promoted("k1")
    found = models.client.get_model_version_by_alias("raft-law", "champion")
    source = models.client.get_model_version_download_uri(found.name, found.version)
    files = download_artifacts(source, tracking_uri=models.uri, dst_path=str(models.folder / "got"))
    assert [path.name for path in Path(files).iterdir()] == ["config.json"]


def test_registry_promoted_version_replaces_the_champion_and_is_rolled_back(
    models: Models,
) -> None:
    models.promoted("k1")
    second = models.promoted("k2")
    assert champion(models) == "2"
    assert second.decision == "promoted"
    left, back = models.registry.roll_back()
    assert (left.number, back.number, champion(models)) == ("2", "1", "1")
    assert "raft.rolled_back" in models.registry.versions()[0].tags
    with pytest.raises(InputError, match="first champion"):
        models.registry.roll_back()


def test_registry_refused_version_stays_a_challenger(models: Models) -> None:
    models.promoted("k1")
    refused = models.registry.decide(models.register("k2"), promote=False)
    assert refused.decision == "refused"
    assert champion(models) == "1"
    challenger = models.client.get_model_version_by_alias("raft-law", "challenger")
    assert str(challenger.version) == "2"


def test_registry_that_cannot_be_asked_is_an_error(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.tracking.registry.PAUSE_SECONDS", 0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:hidden@127.0.0.1:9")
    away = Registry(RuntimeConfig(), "law")
    with pytest.raises(StageError, match="registry") as caught:
        away.versions()
    assert "hidden" not in str(caught.value)
