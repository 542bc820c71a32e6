"""The parent run of a flow run."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from raft_core.app.document_settings import DocumentSettings
from raft_core.app.settings import Settings
from raft_core.config.runtime import RuntimeConfig
from raft_core.data.records import read_jsonl
from raft_core.execution.listener import Listener
from raft_core.store.artifacts import ArtifactRef, StageSpec
from tasks.tracking.client import UI_PORT, log_curves, log_metrics, log_params, never_fatal
from tasks.tracking.masking import without_userinfo
from tasks.tracking.outbox import INTERRUPT_SECONDS, Outbox, open_outbox
from tasks.tracking.stage_run import StageTracker, status_after

NOTE = "mlflow.note.content"
NOTE_LIMIT = 7_900  # characters; MLflow cuts a tag at 8,000


def note_of(page: Path) -> str:
    """A page as a run's description, up to MLflow's limit."""
    text = page.read_text(encoding="utf-8")
    if len(text) <= NOTE_LIMIT:
        return text
    return text[:NOTE_LIMIT].rpartition("\n")[0] + f"\n\nThe rest is in {page.name}."


class Tracker(Listener):
    """The parent run of a flow run; `params` are nested settings. Stages have runs below it."""

    def __init__(
        self,
        runtime: RuntimeConfig,
        name: str,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
    ) -> None:
        # The outbox tries again: a client that does so too would only make each attempt longer.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        self._runtime, self._name, self._tags, self._params = runtime, name, tags, params
        self._outbox: Outbox | None = None
        self._run = ""
        self._stages: dict[tuple[str, str], StageTracker] = {}

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end(status_after(error))

    @never_fatal
    def _start(self) -> None:
        self._outbox = open_outbox(self._runtime)
        name = f"{self._name} {time.strftime('%Y-%m-%d %H:%M:%S')}"
        self._run = self._outbox.journal.start_run(name, self._tags)
        log_params(self._outbox.journal, self._run, self._params)

    @never_fatal
    def _end(self, status: str) -> None:
        if self._outbox is not None:
            self._outbox.journal.end_open_runs(status)
            self._outbox.close(INTERRUPT_SECONDS if status == "KILLED" else None)

    @property
    def run_id(self) -> str:
        """The run's id on the tracking server; empty as long as that is away."""
        return "" if self._outbox is None else self._outbox.server_id(self._run)

    @property
    def experiment_id(self) -> str:
        """Empty as long as the tracking server is away."""
        return "" if self._outbox is None else self._outbox.experiment_id(self._run)

    @property
    def url(self) -> str:
        """The run's page on the tracking server, or on the one that `make ui` starts."""
        uri = self._runtime.tracking_uri
        server = uri.rstrip("/") if uri.startswith("http") else f"http://127.0.0.1:{UI_PORT}"
        path = f"#/experiments/{self.experiment_id}/runs/{self.run_id}"
        return f"{without_userinfo(server)}/{path}" if self.run_id else ""

    def cached(self, label: str, spec: StageSpec, found: ArtifactRef) -> None:
        """Log what the store already held as a run of its own."""
        tracked = self._stage(label, spec, cached=True)
        tracked.log_artifact(found)
        tracked.end()

    def started(self, label: str, spec: StageSpec) -> None:
        """Begin the stage's run."""
        self._stages[label, spec.key] = self._stage(label, spec, cached=False)

    def heard(self, label: str, spec: StageSpec, event: Mapping[str, Any]) -> None:
        """Log curves, counts of what was generated, and notes as they come."""
        tracked = self._stages[label, spec.key]
        if event["kind"] == "metrics":
            tracked.live_metrics(event["step"], event["values"])
        elif event["kind"] == "generation":
            counts = {f"generation.{name}": n for name, n in event.items() if name != "kind"}
            tracked.live_metrics(0, counts)
        elif event["kind"] == "note":
            tracked.add_note(event["text"])

    def ended(self, label: str, spec: StageSpec, made: ArtifactRef, seconds: float) -> None:
        """Log the artifact; one that was made elsewhere was logged there."""
        tracked = self._stages.pop((label, spec.key), None)
        if tracked is not None:
            tracked.log_artifact(made)
            tracked.end()

    def failed(self, label: str, spec: StageSpec, error: BaseException) -> None:
        """End the stage's run with its error."""
        tracked = self._stages.pop((label, spec.key), None)
        if tracked is not None:
            tracked.end(error)

    def _stage(self, label: str, spec: StageSpec, *, cached: bool) -> StageTracker:
        journal = None if self._outbox is None else self._outbox.journal
        return StageTracker(self._run, journal, label, spec, cached)

    @classmethod
    def of(cls, settings: Settings) -> Tracker:
        """The run of the pipeline under these settings."""
        domain = settings.domain.name
        tags = {"raft.domain": domain, "raft.profile": settings.profile}
        return cls(settings.runtime, domain, tags, settings.model_dump(mode="json"))

    @classmethod
    def of_documents(cls, settings: DocumentSettings) -> Tracker:
        """The run of a preparation of documents."""
        tags = {"raft.documents": settings.documents.path, "raft.profile": settings.profile}
        params = settings.model_dump(mode="json")
        return cls(settings.runtime, f"prepare {settings.name}", tags, params)

    @never_fatal
    def log_pairs(self, pairs: ArtifactRef) -> None:
        """What was made of documents, on the parent run."""
        if self._outbox is None:
            return
        for name in ("report.md", "summary.json"):
            self._outbox.journal.add("log_file", self._run, path=str(pairs.folder / name))
        page = (pairs.folder / "report.md").read_text(encoding="utf-8")[:NOTE_LIMIT]
        self._outbox.journal.add("set_tag", self._run, name="mlflow.note.content", value=page)

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
        if self._outbox is None:
            return
        journal = self._outbox.journal
        run = journal.start_run(name, {"raft.stage": "cell", **tags}, parent=self._run)
        log_params(journal, run, params)
        scores = json.loads((evaluated.folder / "scores.json").read_text())
        log_metrics(journal, run, {n: s["accuracy"] for n, s in scores.items()})
        if trained is not None:
            log_curves(journal, run, read_jsonl(trained.folder / "curves.jsonl"))
        journal.end_run(run, "FINISHED")

    @never_fatal
    def log_study(self, study: ArtifactRef) -> None:
        """The study's document, numbers and figures on the parent run."""
        if self._outbox is None:
            return
        journal = self._outbox.journal
        for name in ("study.md", "study.json", "cells.jsonl"):
            journal.add("log_file", self._run, path=str(study.folder / name))
        journal.add("log_folder", self._run, path=str(study.folder / "figures"), name="study")
        journal.add("set_tag", self._run, name=NOTE, value=note_of(study.folder / "study.md"))

    @never_fatal
    def log_decision(self, decision: ArtifactRef, tags: Mapping[str, str]) -> None:
        """Why a retrained model was promoted or not, on the parent run."""
        if self._outbox is None:
            return
        journal = self._outbox.journal
        for name in ("decision.md", "decision.json"):
            journal.add("log_file", self._run, path=str(decision.folder / name))
        page = (decision.folder / "decision.md").read_text()
        for name, value in {NOTE: page, **tags}.items():
            journal.add("set_tag", self._run, name=name, value=value)

    @never_fatal
    def log_report(self, report: ArtifactRef) -> None:
        """The comparison on the parent run: table, plots, and a metric per method and score."""
        if self._outbox is None:
            return
        journal = self._outbox.journal
        for path in sorted(report.folder.iterdir()):
            if path.suffix in {".png", ".md", ".json"} and path.name != "record.json":
                journal.add("log_file", self._run, path=str(path))
        journal.add("set_tag", self._run, name=NOTE, value=note_of(report.folder / "report.md"))
        content = json.loads((report.folder / "report.json").read_text())
        for row in content["methods"]:
            values = {f"{row['method']}.{k}": s["accuracy"] for k, s in row["scores"].items()}
            if row["retention"]:
                values[f"{row['method']}.retention"] = row["retention"]["value"]
            log_metrics(journal, self._run, values)


class JoinedTracker(Tracker):
    """A part of a flow run that another process has begun, and ends."""

    def __init__(self, runtime: RuntimeConfig, run_id: str) -> None:
        super().__init__(runtime, "", {}, {})
        self._run_id = run_id

    @never_fatal
    def _start(self) -> None:
        self._outbox = open_outbox(self._runtime)
        self._run = self._outbox.journal.join_run(self._run_id)
