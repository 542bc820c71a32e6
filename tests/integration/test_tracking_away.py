"""A real MLflow server that is killed and comes back, and flows that are: nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from mlflow import MlflowClient

from raft_core.config.runtime import RuntimeConfig
from raft_core.store.artifacts import ArtifactRef, StageSpec
from tasks.tracking import Tracker
from tasks.tracking.server import Server
from tests.tracked import stage_of

pytestmark = pytest.mark.timeout(900)
ROOT = Path(__file__).resolve().parents[2]
STEPS = 60

SPEC = StageSpec(stage="distill", version=1, config={"distill": {"top_k": 4}}, identity={})


class MlflowServer:
    """`mlflow server` on loopback, over one SQLite file for all its lives."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        store = f"sqlite:///{self._folder / 'server.db'}"
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        with open(self._folder / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(self._healthy, 600)

    def kill(self) -> None:
        """The server and its worker, in the middle of whatever they do."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _healthy(self) -> bool:
        try:
            return bool(urlopen(f"{self.uri}/health", timeout=5).status == 200)
        except (URLError, OSError):
            return False


def wait_until(condition: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    started = MlflowServer(tmp_path)
    yield started
    started.kill()


@pytest.fixture
def runtime(server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RuntimeConfig:
    monkeypatch.setenv("RAFT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "300")  # a busy machine is not away
    return RuntimeConfig(mlflow_uri=server.uri)


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each time that the server is asked; after a failure not before the end."""
    made: list[str] = []
    send, answers = Server.send, Server.answers

    def counted_send(self: Server, call: Any, ids: Mapping[str, str]) -> str | None:
        made.append(call.method)
        return send(self, call, ids)

    def counted_answers(self: Server) -> None:
        made.append("answers")
        answers(self)

    monkeypatch.setattr("tasks.tracking.outbox.PAUSE_SECONDS", 1e9)
    monkeypatch.setattr(Server, "send", counted_send)
    monkeypatch.setattr(Server, "answers", counted_answers)
    return made


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def artifact(folder: Path, stage: str) -> ArtifactRef:
    """A small folder with what the stage's artifact is looked at for."""
    root = folder / stage
    root.mkdir()
    if stage == "distill":
        curve = [{"step": step, "loss": 1 / step} for step in range(1, STEPS + 1)]
        write_rows(root / "curves.jsonl", curve)
        write_rows(root / "rollouts.jsonl", [{"id": "a", "text": "So."}])
        (root / "checkpoint").mkdir()
        (root / "checkpoint" / "config.json").write_text("{}")
    elif stage == "prepare":
        (root / "counts.json").write_text(json.dumps({"in": 3, "kept": 3, "rejected": {"long": 0}}))
        for split in ("train", "validation", "test"):
            row = {"id": split, "question": "Why?", "answer": "So."}
            write_rows(root / f"{split}.jsonl", [row])
    else:
        (root / "report.md").write_text("| RAFT |")
        score = {"domain": {"accuracy": 0.5}}
        row = {"method": "raft", "scores": score, "retention": {"value": 0.9}}
        (root / "report.json").write_text(json.dumps({"methods": [row]}))
    return ArtifactRef(stage=stage, key="k", path=str(root))


def run_flow(runtime: RuntimeConfig, folder: Path, during: Callable[[Tracker, int], None]) -> None:
    """A tracked flow of two stages and a report; `during` is called before each training step."""
    config = {"domain": {"name": "law"}}
    prepare = StageSpec(stage="prepare", version=1, config=config, identity={})
    with Tracker(runtime, "law", {"raft.domain": "law"}, {"filter": {"tau": 0.8}}) as tracker:
        with stage_of(tracker, "prepare", prepare) as stage:
            stage.log_artifact(artifact(folder, "prepare"))
        with stage_of(tracker, "distill raft", SPEC) as stage:
            for step in range(1, STEPS + 1):
                during(tracker, step)
                stage.live_metrics(step, {"loss": 1 / step})
            stage.log_artifact(artifact(folder, "distill"))
        tracker.log_report(artifact(folder, "report"))


def sent(tracker: Tracker) -> bool:
    assert tracker._outbox is not None
    return tracker._outbox.journal.waiting() == 0


def runs_of(uri: str) -> dict[str, Any]:
    """Runs by their names, the parent as 'parent'; each name must be there once."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("raft")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    named = {run.info.run_name: run for run in found if run is not parents[0]}
    assert len(named) == len(found) - 1
    parent_ids = {run.data.tags["mlflow.parentRunId"] for run in named.values()}
    assert parent_ids <= {parents[0].info.run_id}
    return {"parent": parents[0]} | named


def check_complete(uri: str, folder: Path) -> None:
    """Everything that `run_flow` logs is there, once."""
    client, runs = MlflowClient(uri), runs_of(uri)
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    parent, prepare, distill = runs["parent"], runs["prepare"], runs["distill raft"]
    assert parent.data.params == {"filter.tau": "0.8"}
    assert parent.data.tags["raft.domain"] == "law"
    assert parent.data.tags["mlflow.note.content"] == "| RAFT |"
    assert parent.data.metrics == {"raft.domain": 0.5, "raft.retention": 0.9}
    paths = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert paths == {"report.md", "report.json"}
    for run in (parent, prepare):
        names = {i.dataset.name for i in run.inputs.dataset_inputs}
        assert names == {"law-train", "law-validation", "law-test"}
    assert prepare.data.metrics == {"rows.in": 3, "rows.kept": 3, "rejected.long": 0}
    check_training(client, distill, folder)


def check_training(client: MlflowClient, run: Any, folder: Path) -> None:
    assert run.data.params == {"distill.top_k": "4"}
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [p.step for p in history] == list(range(1, STEPS + 1))
    assert [p.value for p in history] == [1 / step for step in range(1, STEPS + 1)]
    assert run.info.start_time <= history[0].timestamp <= history[-1].timestamp <= run.info.end_time
    path = client.download_artifacts(run.info.run_id, "rollouts.json", str(folder))
    assert json.loads(Path(path).read_text())["data"] == [["a", "So."]]
    tables = [{"path": "rollouts.json", "type": "table"}]
    assert json.loads(run.data.tags["mlflow.loggedArtifacts"]) == tables
    models = client.search_logged_models([run.info.experiment_id])
    assert [(m.model_id, m.status) for m in models] == [(run.data.tags["raft.model_id"], "READY")]


def left(home: Path) -> list[Path]:
    return list((home / "outbox").glob("*.jsonl"))


def test_server_killed_in_the_middle_of_training_and_back_before_its_end_loses_nothing(
    server: MlflowServer, runtime: RuntimeConfig, attempts: list[str], tmp_path: Path
) -> None:
    asked_before_kill, asked_while_away = 0, 0

    def during(tracker: Tracker, step: int) -> None:
        nonlocal asked_before_kill, asked_while_away
        if step == STEPS // 3:
            wait_until(lambda: sent(tracker))
            assert tracker.url.startswith(f"{server.uri}/#/experiments/")
            server.kill()
            asked_before_kill = len(attempts)
        if step == 2 * STEPS // 3:
            wait_until(lambda: len(attempts) > asked_before_kill)
            asked_while_away = len(attempts) - asked_before_kill
            server.start()

    server.start()
    run_flow(runtime, tmp_path, during)
    assert asked_while_away == 1
    check_complete(server.uri, tmp_path)
    assert left(runtime.home_folder) == []


def test_server_away_from_start_to_end_the_next_run_sends_everything(
    server: MlflowServer,
    runtime: RuntimeConfig,
    attempts: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run_flow(runtime, tmp_path, lambda *_: None)
    assert len(attempts) <= 2  # the first call, and once more at the end
    assert "what is logged waits in" in caplog.text
    assert len(left(runtime.home_folder)) == 1
    server.start()
    run = "import sys; from raft_core.config.runtime import RuntimeConfig\n"
    run += "from tasks.tracking import *\n"
    run += "with Tracker(RuntimeConfig(mlflow_uri=sys.argv[1]), 'next', {'next': '1'}, {}): pass"
    subprocess.run([sys.executable, "-c", run, server.uri], cwd=ROOT, check=True)
    assert left(runtime.home_folder) == []
    client = MlflowClient(server.uri)
    (next_run,) = client.search_runs(["1"], "tags.next = '1'")
    assert next_run.info.status == "FINISHED"
    client.delete_run(next_run.info.run_id)
    check_complete(server.uri, tmp_path)


def test_server_that_hangs_holds_up_neither_the_training_nor_its_end(
    runtime: RuntimeConfig, attempts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "600")
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        uri = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        tracker = Tracker(runtime.model_copy(update={"mlflow_uri": uri}), "law", {}, {})
        with suppress(KeyboardInterrupt), tracker:
            wait_until(lambda: bool(attempts))
            with stage_of(tracker, "distill raft", SPEC) as stage:
                for step in range(1, STEPS + 1):
                    stage.live_metrics(step, {"loss": 1 / step})
                raise KeyboardInterrupt
        assert len(attempts) == 1
        (journal,) = left(runtime.home_folder)
        assert journal.read_text().count('"loss"') == STEPS
        assert journal.read_text().count("KILLED") == 2


TRACKED = """
import time
from flows.local import exit_on_interrupt
from prefect.utilities.engine import capture_sigterm
from raft_core.store.artifacts import StageSpec
from raft_core.config.runtime import RuntimeConfig
from tasks.tracking import Tracker, flow_run, outbox
from tests.tracked import stage_of

# A busy machine may need more than the two seconds, and would leave the rest to the next run.
outbox.INTERRUPT_SECONDS = flow_run.INTERRUPT_SECONDS = 300
exit_on_interrupt()
spec = StageSpec(stage="distill", version=1, config={}, identity={})
with capture_sigterm(), Tracker(RuntimeConfig(), "law", {}, {}) as tracker:
    with stage_of(tracker, "distill raft", spec) as stage:
        stage.live_metrics(1, {"loss": 1.0})
        print(tracker.run_id, flush=True)
        time.sleep(120)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_flow_that_is_stopped_ends_its_runs_as_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setenv("RAFT_HOME", str(tmp_path))
    command = [sys.executable, "-c", TRACKED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip()
        process.send_signal(number)
        process.wait(300)
    if number == signal.SIGKILL:  # nothing could be said: the next run does
        assert {run.info.status for run in stopped(tmp_path).values()} == {"RUNNING"}
        with Tracker(RuntimeConfig(), "next", {}, {}) as tracker:
            wait_until(lambda: len(left(tmp_path)) == 1)
            next_run = tracker.run_id
        MlflowClient(RuntimeConfig().tracking_uri).delete_run(next_run)
    runs = stopped(tmp_path)
    assert {run.info.status for run in runs.values()} == {"KILLED"}
    assert runs["distill raft"].data.metrics == {"loss": 1.0}
    assert left(tmp_path) == []


def stopped(home: Path) -> dict[str, Any]:
    return runs_of(f"sqlite:///{home / 'mlflow.db'}")
