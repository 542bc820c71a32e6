"""The child run of one stage."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from raft_core.artifacts import ArtifactRef, StageSpec
from raft_core.records import read_jsonl
from tasks.tracking.client import log_metrics, log_params, never_fatal, numbers

if TYPE_CHECKING:
    from tasks.tracking.flow_run import Tracker

TABLE_ROWS = 500
LOGGED_MODEL_LIMIT_BYTES = 2 * 2**30


class StageTracker:
    """One stage's child run: parameters, live curves, tables, inputs, the checkpoint."""

    def __init__(
        self, parent: Tracker, client: Any, label: str, spec: StageSpec, cached: bool
    ) -> None:
        self._parent, self._client, self._label = parent, client, label
        self._spec, self._cached = spec, cached
        self._steps: set[int] = set()
        self._run_id = ""

    def __enter__(self) -> StageTracker:
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
        if self._client is None:
            return
        run = self._client.create_run(
            self._parent.experiment_id,
            run_name=self._label,
            tags={
                "mlflow.parentRunId": self._parent.run_id,
                "raft.stage": self._spec.stage,
                "raft.key": self._spec.key,
                "raft.cached": str(self._cached).lower(),
            },
        )
        self._run_id = run.info.run_id
        log_params(self._client, self._run_id, self._spec.config)

    @never_fatal
    def _end(self, status: str) -> None:
        if self._run_id:
            self._client.set_terminated(self._run_id, status)

    @never_fatal
    def live_metrics(self, step: int, values: Mapping[str, float]) -> None:
        if self._run_id:
            self._steps.add(step)
            log_metrics(self._client, self._run_id, values, step)

    @never_fatal
    def log_artifact(self, artifact: ArtifactRef) -> None:
        """What the stage made, in the form in which people browse it."""
        if not self._run_id:
            return
        self._client.set_tag(self._run_id, "raft.artifact", artifact.path)
        counts = artifact.folder / "counts.json"
        if counts.is_file():
            content = json.loads(counts.read_text())
            rejected = {f"rejected.{reason}": n for reason, n in content["rejected"].items()}
            totals = {"rows.in": content["in"], "rows.kept": content["kept"]}
            log_metrics(self._client, self._run_id, totals | rejected)
        logging_of_stage = getattr(self, f"_log_{artifact.stage}", None)
        if logging_of_stage is not None:
            logging_of_stage(artifact)

    def _log_prepare(self, artifact: ArtifactRef) -> None:
        import pandas
        from mlflow.data.pandas_dataset import from_pandas
        from mlflow.entities import DatasetInput, InputTag

        domain = self._spec.config["domain"]
        inputs = []
        for split in ("train", "validation", "test"):
            frame = pandas.DataFrame(read_jsonl(artifact.folder / f"{split}.jsonl"))
            with warnings.catch_warnings():  # a local path has several equal readings
                warnings.simplefilter("ignore")
                dataset = from_pandas(
                    frame[["id", "question", "answer"]],
                    source=str(artifact.folder / f"{split}.jsonl"),
                    name=f"{domain['name']}-{split}",
                )
            tag = InputTag(key="mlflow.data.context", value=split)
            inputs.append(DatasetInput(dataset._to_mlflow_entity(), [tag]))
        for run_id in (self._run_id, self._parent.run_id):
            self._client.log_inputs(run_id, inputs)

    def _log_filter(self, artifact: ArtifactRef) -> None:
        self._table(artifact, "filtered.jsonl", "rewrites.json")

    def _log_fuse(self, artifact: ArtifactRef) -> None:
        def readable(row: dict[str, Any]) -> dict[str, Any]:
            votes = [candidate["votes"] for candidate in row["candidates"]]
            return {k: v for k, v in row.items() if k != "candidates"} | {
                "votes": json.dumps(votes)
            }

        self._table(artifact, "lineage.jsonl", "lineage.json", readable)

    def _log_distill(self, artifact: ArtifactRef) -> None:
        for entry in read_jsonl(artifact.folder / "curves.jsonl"):
            if entry["step"] not in self._steps:  # cached, or trained before a resume
                log_metrics(self._client, self._run_id, numbers(entry), int(entry["step"]))
        self._table(artifact, "rollouts.jsonl", "rollouts.json")
        checkpoint = artifact.folder / "checkpoint"
        size = sum(p.stat().st_size for p in checkpoint.rglob("*") if p.is_file())
        if not self._cached and size <= LOGGED_MODEL_LIMIT_BYTES:
            self._log_model(checkpoint)

    def _log_model(self, checkpoint: Path) -> None:
        model = self._client.create_logged_model(
            experiment_id=self._parent.experiment_id,
            name=re.sub(r"\W+", "-", self._label),
            source_run_id=self._run_id,
            tags={"raft.key": self._spec.key},
            model_type="causal-lm",
        )
        self._client.log_model_artifacts(model.model_id, str(checkpoint))
        self._client.finalize_logged_model(model.model_id, "READY")
        self._client.set_tag(self._run_id, "raft.model_id", model.model_id)

    def _log_evaluate(self, artifact: ArtifactRef) -> None:
        scores = json.loads((artifact.folder / "scores.json").read_text())
        for name, score in scores.items():
            values = {f"{name}.{key}": score[key] for key in ("accuracy", "low", "high")}
            log_metrics(self._client, self._run_id, values)

        def readable(row: dict[str, Any]) -> dict[str, Any]:
            votes = {vote["judge"]: vote["verdict"] for vote in row["votes"]}
            return row | {"votes": json.dumps(votes)}

        self._table(artifact, "verdicts.jsonl", "verdicts.json", readable)

    def _table(
        self,
        artifact: ArtifactRef,
        source: str,
        name: str,
        readable: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    ) -> None:
        import pandas

        rows = [readable(row) for row, _ in zip(_read(artifact, source), range(TABLE_ROWS))]  # noqa: B905
        if rows:
            self._client.log_table(self._run_id, pandas.DataFrame(rows), name)


def _read(artifact: ArtifactRef, name: str) -> Iterable[dict[str, Any]]:
    return read_jsonl(artifact.folder / name)
