"""Tracking without a server, and what becomes of nested settings."""

from __future__ import annotations

import logging

import pytest

from raft_core.artifacts import ArtifactRef
from raft_core.settings import load_settings
from raft_core.stages import STAGES
from tasks.tracking import Tracker, flatten, numbers


def test_tracking_server_that_is_away_warns_and_stops_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    settings = load_settings("mini", "law", ["runtime.mlflow_uri=http://127.0.0.1:9"])
    spec = STAGES["prepare"].spec(settings.prepare_stage(), {}, settings.runtime)
    nothing = ArtifactRef(stage="prepare", key="k", path="/none")
    with caplog.at_level(logging.WARNING), Tracker.of(settings) as tracker:
        with tracker.stage("prepare", spec, cached=False) as stage:
            stage.live_metrics(1, {"loss": 1.0})
            stage.log_artifact(nothing)
        tracker.log_report(nothing)
    assert [r.message.split(" failed")[0] for r in caplog.records if "MLflow" in r.message] == [
        "MLflow: _start"
    ]
    assert tracker.url == ""


def test_flatten_nested_settings_dotted_names() -> None:
    nested = {"a": {"b": 1, "c": {"d": None}}, "e": [1, 2]}
    assert dict(flatten(nested)) == {"a.b": 1, "a.c.d": None, "e": [1, 2]}


def test_numbers_leaves_the_step_and_texts_out() -> None:
    assert numbers({"step": 3, "loss": 1, "name": "x"}) == {"loss": 1.0}
