"""The child run of one stage."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from raft_core.data.records import read_jsonl
from raft_core.errors import RaftError
from raft_core.store.artifacts import ArtifactRef, StageSpec
from tasks.tracking.client import log_curves, log_metrics, log_params, never_fatal
from tasks.tracking.journal import Journal

TABLE_ROWS = 500
TAG_CHARACTERS = 4000  # MLflow refuses longer ones than 5000
LOGGED_MODEL_LIMIT_BYTES = 2 * 2**30
LOGGED_FILE_LIMIT_BYTES = 2**28


class StageTracker:
    """One stage's child run: parameters, live curves, tables, inputs, the checkpoint."""

    def __init__(
        self, parent: str, journal: Journal | None, label: str, spec: StageSpec, cached: bool
    ) -> None:
        self._parent, self._journal, self._label = parent, journal, label
        self._spec, self._cached = spec, cached
        self._steps: set[int] = set()
        self._notes: list[str] = []
        self._run = ""
        self._start()

    @never_fatal
    def _start(self) -> None:
        if self._journal is None:
            return
        tags = {
            "raft.stage": self._spec.stage,
            "raft.key": self._spec.key,
            "raft.cached": str(self._cached).lower(),
        }
        self._run = self._journal.start_run(self._label, tags, parent=self._parent)
        log_params(self._journal, self._run, self._spec.config)

    @never_fatal
    def end(self, error: BaseException | None = None) -> None:
        """End the run, with the error that ended the stage."""
        if self._journal is not None:
            if isinstance(error, RaftError):
                self._tell("raft.error", str(error))
            self._journal.end_run(self._run, status_after(error))

    @never_fatal
    def add_note(self, text: str) -> None:
        """Show what the stage warned of: a model that was made in spite of it shows it."""
        if self._journal is not None:
            self._notes.append(text)
            self._tell("raft.notes", "\n".join(self._notes))

    def _tell(self, name: str, text: str) -> None:
        self._journal.add("set_tag", self._run, name=name, value=text[:TAG_CHARACTERS])

    @never_fatal
    def live_metrics(self, step: int, values: Mapping[str, float]) -> None:
        if self._journal is not None:
            log_metrics(self._journal, self._run, values, step)
            self._steps.add(step)

    @never_fatal
    def log_artifact(self, artifact: ArtifactRef) -> None:
        """What the stage made, in the form in which people browse it."""
        if self._journal is None:
            return
        self._journal.add("set_tag", self._run, name="raft.artifact", value=artifact.path)
        counts = artifact.folder / "counts.json"
        if counts.is_file():
            content = json.loads(counts.read_text())
            rejected = {f"rejected.{reason}": n for reason, n in content["rejected"].items()}
            totals = {"rows.in": content["in"], "rows.kept": content["kept"]}
            log_metrics(self._journal, self._run, totals | rejected)
        logging_of_stage = getattr(self, f"_log_{artifact.stage}", None)
        if logging_of_stage is not None:
            logging_of_stage(artifact)

    def _log_prepare(self, artifact: ArtifactRef) -> None:
        splits = ("train", "validation", "test")
        files = {split: str(artifact.folder / f"{split}.jsonl") for split in splits}
        name = self._spec.config["domain"]["name"]
        for run in (self._run, self._parent):
            self._journal.add("log_datasets", run, name=name, files=files)

    def _log_filter(self, artifact: ArtifactRef) -> None:
        self._table(artifact, "filtered.jsonl", "rewrites.json")

    def _log_fuse(self, artifact: ArtifactRef) -> None:
        def readable(row: dict[str, Any]) -> dict[str, Any]:
            votes = [candidate["votes"] for candidate in row["candidates"]]
            return {k: v for k, v in row.items() if k != "candidates"} | {
                "votes": json.dumps(votes)
            }

        self._table(artifact, "lineage.jsonl", "lineage.json", readable)

    def _log_lineage(self, artifact: ArtifactRef) -> None:
        for name in ("lineage.parquet", "lineage.html"):
            path = artifact.folder / name
            if path.stat().st_size <= LOGGED_FILE_LIMIT_BYTES:
                self._journal.add("log_file", self._run, path=str(path))
        page = str(artifact.folder / "lineage.html")
        self._journal.add("set_tag", self._parent, name="raft.lineage", value=page)

    def _log_distill(self, artifact: ArtifactRef) -> None:
        points = read_jsonl(artifact.folder / "curves.jsonl")
        # Those that are not live: cached, or trained before a resume.
        missing = [point for point in points if point["step"] not in self._steps]
        log_curves(self._journal, self._run, missing)
        self._table(artifact, "rollouts.jsonl", "rollouts.json")
        checkpoint = artifact.folder / "checkpoint"
        size = sum(p.stat().st_size for p in checkpoint.rglob("*") if p.is_file())
        if not self._cached and size <= LOGGED_MODEL_LIMIT_BYTES:
            name, tags = re.sub(r"\W+", "-", self._label), {"raft.key": self._spec.key}
            self._journal.add("log_model", self._run, name=name, path=str(checkpoint), tags=tags)

    def _log_evaluate(self, artifact: ArtifactRef) -> None:
        scores = json.loads((artifact.folder / "scores.json").read_text())
        for name, score in scores.items():
            values = {f"{name}.{key}": score[key] for key in ("accuracy", "low", "high")}
            agreed = {key: score["agreement"][key] for key in ("kappa", "alpha")}
            values |= {f"{name}.{key}": v for key, v in agreed.items() if v is not None}
            log_metrics(self._journal, self._run, values)

        def readable(row: dict[str, Any]) -> dict[str, Any]:
            votes = {vote["judge"]: vote["verdict"] for vote in row["votes"]}
            return row | {"votes": json.dumps(votes)}

        self._table(artifact, "verdicts.jsonl", "verdicts.json", readable)

    def _log_pairs(self, artifact: ArtifactRef) -> None:
        def readable(row: dict[str, Any]) -> dict[str, Any]:
            return row | {
                name: json.dumps(row[name])
                for name in {"votes", "expected", "asked_by"} & row.keys()
            }

        self._table(artifact, "pairs.jsonl", "pairs.json", readable)

    def _table(
        self,
        artifact: ArtifactRef,
        source: str,
        name: str,
        readable: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    ) -> None:
        rows = [readable(row) for row, _ in zip(_read(artifact, source), range(TABLE_ROWS))]  # noqa: B905
        if rows:
            self._journal.add("log_table", self._run, name=name, rows=rows)


def _read(artifact: ArtifactRef, name: str) -> Iterable[dict[str, Any]]:
    return read_jsonl(artifact.folder / name)


def status_after(error: BaseException | None) -> str:
    """How a run ended: Ctrl-C, a cancelled flow run and the like are no errors of the run."""
    if error is None:
        return "FINISHED"
    return "FAILED" if isinstance(error, Exception) else "KILLED"
