"""Tracking without a server, what it never logs, and what becomes of nested settings."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from raft_core.app.settings import load_settings
from raft_core.config.runtime import RuntimeConfig
from raft_core.store.artifacts import ArtifactRef, StageSpec
from tasks.serving.login import made_login
from tasks.tracking import Tracker, flatten, numbers
from tasks.tracking.connection import open_client
from tests.tracked import stage_of

SPEC = StageSpec(stage="distill", version=1, config={"top_k": 4}, identity={})
AWAY = "http://ann:secret@127.0.0.1:9"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAFT_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    return tmp_path


def lines(home: Path) -> list[dict[str, object]]:
    """What waits in the only journal."""
    (journal,) = (home / "outbox").glob("*.jsonl")
    return [json.loads(line) for line in journal.read_text().splitlines()]


def test_tracking_server_that_is_away_warns_and_stops_nothing(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nothing = ArtifactRef(stage="distill", key="k", path="/none")
    caplog.set_level(logging.WARNING)
    with Tracker(RuntimeConfig(), "law", {}, {}) as tracker:
        with stage_of(tracker, "distill raft", SPEC) as stage:
            stage.live_metrics(1, {"loss": 1.0})
            stage.log_artifact(nothing)
        assert tracker.run_id == tracker.experiment_id == tracker.url == ""
        tracker.log_report(nothing)
    told = [r.message for r in caplog.records if r.name == "raft.tracking"]
    for beginning in (" is away", ": log_artifact failed", ": log_report failed", ": the next run"):
        assert sum(m.startswith(f"MLflow{beginning}") for m in told) == 1, told
    calls = [line["call"] for line in lines(home) if "call" in line]
    assert calls == [
        "start_run", "log_params", "start_run", "log_params", "log_metrics", "set_tag",
        "end_run", "end_run",
    ]  # fmt: skip


def test_tracking_never_shows_a_password(
    home: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bob")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hidden")
    # So long that the cut to MLflow's limit would take the `@`, by which a password is known.
    endless = f"http://ann:{'secret' * 100}@host"
    settings = load_settings("mini", "law")
    spec = SPEC.model_copy(update={"config": {"url": endless}})
    caplog.set_level(logging.DEBUG)
    with Tracker.of(settings) as tracker, stage_of(tracker, "x", spec, cached=True):
        pass
    params = [line["params"] for line in lines(home) if line.get("call") == "log_params"]
    assert params[1] == {"url": "http://***@host"}
    told = (caplog.text, *(path.read_text() for path in (home / "outbox").glob("*.jsonl")))
    assert not any(secret in text for text in told for secret in ("secret", "hidden", "bob"))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "FINISHED"),
        (ValueError(), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
    ],
)
def test_run_ends_with_the_status_of_its_error(
    home: Path, error: BaseException | None, status: str
) -> None:
    def run() -> None:
        with Tracker(RuntimeConfig(), "law", {}, {}) as tracker:
            tracker.started("distill raft", SPEC)
            if error is not None:
                raise error

    if error is None:
        run()
    else:
        with pytest.raises(type(error)):
            run()
    ended = [line["status"] for line in lines(home) if line.get("call") == "end_run"]
    assert ended == [status, status]


def test_home_that_cannot_be_written_is_one_warning(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (home / "outbox").write_text("a file where a folder should be")
    with Tracker(RuntimeConfig(), "law", {}, {}) as tracker:
        with stage_of(tracker, "distill raft", SPEC) as stage:
            stage.live_metrics(1, {"loss": 1.0})
        assert tracker.url == ""
    assert [r.message.split(" failed")[0] for r in caplog.records] == ["MLflow: _start"]


def test_flatten_nested_settings_dotted_names() -> None:
    nested = {"a": {"b": 1, "c": {"d": None}}, "e": [1, 2]}
    assert dict(flatten(nested)) == {"a.b": 1, "a.c.d": None, "e": [1, 2]}


def test_numbers_leaves_the_step_and_texts_out() -> None:
    assert numbers({"step": 3, "loss": 1, "name": "x"}) == {"loss": 1.0}


LOGIN = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


@pytest.mark.parametrize("name", LOGIN)
def test_login_of_the_home_is_not_mixed_with_that_of_the_environment(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in LOGIN:
        monkeypatch.setenv(each, "restored afterwards")
        monkeypatch.delenv(each)
    monkeypatch.setenv(name, "of the environment")
    runtime = RuntimeConfig(home=str(tmp_path), mlflow_uri="http://127.0.0.1:1")
    made_login(runtime.login_file)
    runtime.server_note.write_text("http://127.0.0.1:1\n")
    open_client(runtime)
    assert {key for key in LOGIN if key in os.environ} == {name}
