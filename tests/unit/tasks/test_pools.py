"""Whether a run that the server gave up is alive: its heartbeats tell."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import Completed, Crashed, Failed

from tasks.pools import is_alive


def client_that_heard(*ages: float) -> tuple[Any, list[Any]]:
    asked: list[Any] = []

    def read_events(filter: Any, limit: int) -> Any:
        asked.append(filter)
        heard = [datetime.now(UTC) - timedelta(seconds=age) for age in ages]
        return SimpleNamespace(events=[SimpleNamespace(occurred=at) for at in heard])

    return SimpleNamespace(read_events=read_events), asked


def run(state: Any, age: float) -> FlowRun:
    state.timestamp = datetime.now(UTC) - timedelta(seconds=age)
    return FlowRun(flow_id=uuid4(), state=state)


@pytest.mark.parametrize(
    ("given_up", "heard", "alive"),
    [
        (10, [], True),  # the next heartbeat may still come
        (200, [], False),
        (200, [20], True),
        (200, [150], False),
    ],
)
def test_crashed_run_is_alive_while_its_heartbeats_are_heard(
    given_up: float, heard: list[float], alive: bool
) -> None:
    client, asked = client_that_heard(*heard)
    crashed = run(Crashed(), given_up)
    assert is_alive(client, crashed) is alive
    (seen,) = asked
    assert seen.resource.id == [f"prefect.flow-run.{crashed.id}"]


@pytest.mark.parametrize("state", [Completed(), Failed()])
def test_run_that_ended_otherwise_is_not_asked_about(state: Any) -> None:
    client, asked = client_that_heard(1)
    assert not is_alive(client, run(state, 200))
    assert not asked
