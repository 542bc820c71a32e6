"""The parent run of a flow run."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from raft_core.artifacts import ArtifactRef, StageSpec
from raft_core.records import read_jsonl
from raft_core.runtime import RuntimeConfig
from raft_core.settings import Settings
from tasks.tracking.client import (
    EXPERIMENT,
    UI_PORT,
    log_curves,
    log_metrics,
    log_params,
    never_fatal,
)
from tasks.tracking.stage_run import StageTracker

NOTE_LIMIT = 7_900  # characters; MLflow cuts a tag at 8,000


class Tracker:
    """The parent run of a flow run; `params` are nested settings."""

    def __init__(
        self,
        runtime: RuntimeConfig,
        name: str,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
    ) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        self._runtime, self._name, self._tags, self._params = runtime, name, tags, params
        self._client: Any = None
        self.experiment_id = ""
        self.run_id = ""

    def __enter__(self) -> Tracker:
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end("FINISHED" if error is None else "FAILED")

    @never_fatal
    def _start(self) -> None:
        from mlflow import MlflowClient

        runtime = self._runtime
        runtime.home_folder.mkdir(parents=True, exist_ok=True)
        client = MlflowClient(runtime.tracking_uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            location = None
            if runtime.tracking_uri.startswith("sqlite:"):
                location = (runtime.home_folder / "mlartifacts").as_uri()
            self.experiment_id = client.create_experiment(EXPERIMENT, artifact_location=location)
        else:
            self.experiment_id = experiment.experiment_id
        run = client.create_run(
            self.experiment_id,
            run_name=f"{self._name} {time.strftime('%Y-%m-%d %H:%M:%S')}",
            tags=dict(self._tags),
        )
        self._client, self.run_id = client, run.info.run_id
        log_params(client, self.run_id, self._params)

    @never_fatal
    def _end(self, status: str) -> None:
        if self._client is not None:
            self._client.set_terminated(self.run_id, status)

    @property
    def url(self) -> str:
        """The run's page on the tracking server, or on the one that `make ui` starts."""
        uri = self._runtime.tracking_uri
        server = uri.rstrip("/") if uri.startswith("http") else f"http://127.0.0.1:{UI_PORT}"
        path = f"#/experiments/{self.experiment_id}/runs/{self.run_id}"
        return f"{server}/{path}" if self.run_id else ""

    def stage(self, label: str, spec: StageSpec, *, cached: bool) -> StageTracker:
        """The child run of one stage, to be entered."""
        return StageTracker(self, self._client, label, spec, cached)

    @classmethod
    def of(cls, settings: Settings) -> Tracker:
        """The run of the pipeline under these settings."""
        domain = settings.domain.name
        tags = {"raft.domain": domain, "raft.profile": settings.profile}
        return cls(settings.runtime, domain, tags, settings.model_dump(mode="json"))

    @never_fatal
    def log_cell(
        self,
        name: str,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        evaluated: ArtifactRef,
        trained: ArtifactRef | None,
    ) -> None:
        """A study's cell as a child run: settings, scores, and the training's curves."""
        if self._client is None:
            return
        parent = {"mlflow.parentRunId": self.run_id, "raft.stage": "cell"}
        run = self._client.create_run(self.experiment_id, run_name=name, tags=parent | dict(tags))
        run_id = run.info.run_id
        log_params(self._client, run_id, params)
        scores = json.loads((evaluated.folder / "scores.json").read_text())
        log_metrics(self._client, run_id, {n: s["accuracy"] for n, s in scores.items()})
        if trained is not None:
            log_curves(self._client, run_id, read_jsonl(trained.folder / "curves.jsonl"))
        self._client.set_terminated(run_id, "FINISHED")

    @never_fatal
    def log_study(self, study: ArtifactRef) -> None:
        """The study's document, numbers and figures on the parent run."""
        if self._client is None:
            return
        for name in ("study.md", "study.json", "cells.jsonl"):
            self._client.log_artifact(self.run_id, str(study.folder / name))
        self._client.log_artifacts(self.run_id, str(study.folder / "figures"), "study")
        page = (study.folder / "study.md").read_text()
        if len(page) > NOTE_LIMIT:
            page = page[:NOTE_LIMIT].rpartition("\n")[0] + "\n\nThe rest is in study.md."
        self._client.set_tag(self.run_id, "mlflow.note.content", page)

    @never_fatal
    def log_report(self, report: ArtifactRef) -> None:
        """The comparison on the parent run: table, plots, and a metric per method and score."""
        if self._client is None:
            return
        for path in sorted(report.folder.iterdir()):
            if path.suffix in {".png", ".md", ".json"} and path.name != "record.json":
                self._client.log_artifact(self.run_id, str(path))
        page = (report.folder / "report.md").read_text()
        self._client.set_tag(self.run_id, "mlflow.note.content", page)
        content = json.loads((report.folder / "report.json").read_text())
        for row in content["methods"]:
            values = {f"{row['method']}.{k}": s["accuracy"] for k, s in row["scores"].items()}
            if row["retention"]:
                values[f"{row['method']}.retention"] = row["retention"]["value"]
            log_metrics(self._client, self.run_id, values)
