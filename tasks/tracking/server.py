"""The tracking server behind a journal: each call as MLflow's own client makes it.

Every method may be repeated: what the server already has is found or written again, never doubled.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from raft_core.config.runtime import RuntimeConfig
from raft_core.data.records import read_jsonl
from tasks.tracking.connection import open_client
from tasks.tracking.journal import Call

EXPERIMENT = "raft"
PARAMS_A_CALL = 100
LOCAL_ID = "raft.run"
METHODS = frozenset(
    "log_metrics log_params set_tag log_file log_folder log_table log_datasets log_model "
    "end_run".split()
)
# Not let in (the password may be set later), slow, busy.
PASSING_STATUS = {401, 408, 429}


class Server:
    """Nothing is imported or opened before the first call."""

    def __init__(self, runtime: RuntimeConfig) -> None:
        self._runtime = runtime

    def answers(self) -> None:
        """Ask for something small; an error says that the server is away."""
        self._client.search_experiments(max_results=1)

    def send(self, call: Call, ids: Mapping[str, str]) -> str | None:
        """Make the call; the id of the run if it starts one. `ids`: local id -> the server's."""
        if call.method == "start_run":
            arguments = call.arguments | {"parent": ids.get(call.arguments["parent"], "")}
            return self.start_run(call.run, **arguments)
        if call.method not in METHODS:
            raise LookupError(f"'{call.method}' is no call of this version")
        getattr(self, call.method)(ids[call.run], **call.arguments)
        return None

    @cached_property
    def _client(self) -> Any:
        return open_client(self._runtime)

    @cached_property
    def experiment_id(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        location = None
        if self._runtime.tracking_uri.startswith("sqlite:"):
            location = (self._runtime.home_folder / "mlartifacts").as_uri()
        try:
            return str(self._client.create_experiment(EXPERIMENT, artifact_location=location))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # else another process was faster
                raise
            return str(self._client.get_experiment_by_name(EXPERIMENT).experiment_id)

    def start_run(self, run: str, name: str, tags: dict[str, str], parent: str, time: int) -> str:
        known = self._client.search_runs(
            [self.experiment_id], f"tags.`{LOCAL_ID}` = '{run}'", max_results=1
        )
        if known:  # created by an attempt whose answer was lost
            return str(known[0].info.run_id)
        tags = tags | {LOCAL_ID: run} | ({"mlflow.parentRunId": parent} if parent else {})
        created = self._client.create_run(
            self.experiment_id, start_time=time, tags=tags, run_name=name
        )
        return str(created.info.run_id)

    def end_run(self, run_id: str, status: str, time: int) -> None:
        self._client.set_terminated(run_id, status, time)

    def log_metrics(self, run_id: str, points: Sequence[tuple[str, float, int, int]]) -> None:
        """`points`: name, value, time in ms, step; at most `METRICS_A_CALL`."""
        from mlflow.entities import Metric

        self._client.log_batch(run_id, metrics=[Metric(*point) for point in points])

    def log_params(self, run_id: str, params: dict[str, str]) -> None:
        from mlflow.entities import Param

        entities = [Param(name, value) for name, value in params.items()]
        for start in range(0, len(entities), PARAMS_A_CALL):
            self._client.log_batch(run_id, params=entities[start : start + PARAMS_A_CALL])

    def set_tag(self, run_id: str, name: str, value: str) -> None:
        self._client.set_tag(run_id, name, value)

    def log_file(self, run_id: str, path: str) -> None:
        self._client.log_artifact(run_id, path)

    def log_folder(self, run_id: str, path: str, name: str) -> None:
        self._client.log_artifacts(run_id, path, name)

    def log_table(self, run_id: str, name: str, rows: list[dict[str, Any]]) -> None:
        """As MLflow's own `log_table`, which would append to a table that is there already."""
        import pandas

        table = pandas.DataFrame(rows).to_json(orient="split", index=False, date_format="iso")
        self._client.log_text(run_id, table, name)
        tags = self._client.get_run(run_id).data.tags
        tables = json.loads(tags.get("mlflow.loggedArtifacts", "[]"))
        if (entry := {"path": name, "type": "table"}) not in tables:
            self.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps([*tables, entry]))

    def log_datasets(self, run_id: str, name: str, files: dict[str, str]) -> None:
        """`files`: split -> path of its rows."""
        import pandas
        from mlflow.data.pandas_dataset import from_pandas
        from mlflow.entities import DatasetInput, InputTag

        inputs = []
        for split, path in files.items():
            frame = pandas.DataFrame(read_jsonl(Path(path)))[["id", "question", "answer"]]
            with warnings.catch_warnings():  # a local path has several equal readings
                warnings.simplefilter("ignore")
                dataset = from_pandas(frame, source=path, name=f"{name}-{split}")
            tag = InputTag(key="mlflow.data.context", value=split)
            inputs.append(DatasetInput(dataset._to_mlflow_entity(), [tag]))
        self._client.log_inputs(run_id, inputs)

    def log_model(self, run_id: str, name: str, path: str, tags: dict[str, str]) -> None:
        model_id = self._client.get_run(run_id).data.tags.get("raft.model_id")
        if model_id is None:
            model_id = self._client.create_logged_model(
                experiment_id=self.experiment_id,
                name=name,
                source_run_id=run_id,
                tags=tags,
                model_type="causal-lm",
            ).model_id
            self.set_tag(run_id, "raft.model_id", model_id)
        self._client.log_model_artifacts(model_id, path)
        self._client.finalize_logged_model(model_id, "READY")


def refused(error: Exception) -> bool:
    """Whether a call was answered in a way that trying again does not change."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, FileNotFoundError | LookupError | TypeError):
        return True
    if isinstance(error, MlflowException):
        # A proxy in front of a server that is away may say Not Found.
        if error.error_code == "ENDPOINT_NOT_FOUND":
            return False
        status = error.get_http_status_code()
    else:
        status = getattr(getattr(error, "response", None), "status_code", 500)
    return 400 <= status < 500 and status not in PASSING_STATUS
