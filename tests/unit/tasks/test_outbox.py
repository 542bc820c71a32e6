"""When an outbox sends, waits and gives up: a server that the test turns off, and its clock."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException, RestException
from requests.exceptions import HTTPError
from requests.models import Response

from tasks.tracking.journal import Call, Journal
from tasks.tracking.outbox import ATTEMPTS, PAUSE_SECONDS, Outbox
from tasks.tracking.server import refused

URI = "http://127.0.0.1:9"
AWAY = MlflowException("API request to http://127.0.0.1:9 failed: connection refused")


class FakeServer:
    """Takes calls, unless it is away or one of `errors` is due for the call's method."""

    experiment_id = "1"

    def __init__(self) -> None:
        self.away = False
        self.errors: dict[str, Exception] = {}
        self.attempts = 0
        self.taken: list[Call] = []

    def answers(self) -> None:
        self.attempts += 1
        if self.away:
            raise AWAY

    def send(self, call: Call, ids: Mapping[str, str]) -> str | None:
        self.answers()
        if call.method in self.errors:
            raise self.errors[call.method]
        self.taken.append(call)
        return f"server-{call.run}" if call.method == "start_run" else None

    @property
    def methods(self) -> list[str]:
        return [call.method for call in self.taken]


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outbox(tmp_path: Path, server: FakeServer, clock: Clock) -> Outbox:
    """Not started: the test sends."""
    return Outbox([Journal.create(tmp_path, URI)], server, clock)


def log_step(outbox: Outbox, run: str, step: int) -> None:
    outbox.journal.add("log_metrics", run, points=[("loss", 1.0, step, step)])
    outbox.forward()


def test_forward_server_away_costs_one_attempt_a_pause(
    outbox: Outbox, server: FakeServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    server.away = True
    run = outbox.journal.start_run("law", {})
    for step in range(1, 101):
        log_step(outbox, run, step)
        clock.seconds += 1.0
    assert server.attempts == 1 + 100 // PAUSE_SECONDS
    assert [r.message.split(":")[0] for r in caplog.records] == ["MLflow is away"]


def test_forward_server_back_after_the_pause_gets_all_in_order(
    outbox: Outbox, server: FakeServer, clock: Clock
) -> None:
    run = outbox.journal.start_run("law", {})
    log_step(outbox, run, 1)
    server.away = True
    for step in (2, 3, 4):
        log_step(outbox, run, step)
    server.away = False
    log_step(outbox, run, 5)
    assert server.methods == ["start_run", "log_metrics"]
    clock.seconds = PAUSE_SECONDS
    log_step(outbox, run, 6)
    steps = [p[3] for call in server.taken[1:] for p in call.arguments["points"]]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_forward_now_asks_even_in_the_pause(outbox: Outbox, server: FakeServer) -> None:
    server.away = True
    outbox.journal.start_run("law", {})
    outbox.forward()
    server.away = False
    outbox.forward(now=True)
    assert server.methods == ["start_run"]


def test_forward_refused_call_is_one_warning_and_left_out(
    outbox: Outbox, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    run = outbox.journal.start_run("law", {})
    server.errors["set_tag"] = RestException(
        {"error_code": "INVALID_PARAMETER_VALUE", "message": "http://ann:secret@host is no name"}
    )
    for _ in range(3):
        outbox.journal.add("set_tag", run, name="n", value="v")
    outbox.journal.end_run(run, "FINISHED")
    outbox.forward()
    assert server.methods == ["start_run", "end_run"]
    assert [r.message for r in caplog.records] == [
        "MLflow: set_tag failed: INVALID_PARAMETER_VALUE: http://***@host is no name"
    ]


def test_forward_call_that_fails_at_a_server_that_answers_is_given_up(
    outbox: Outbox, server: FakeServer, clock: Clock
) -> None:
    run = outbox.journal.start_run("law", {})
    outbox.journal.add("log_file", run, path="/x")
    outbox.journal.end_run(run, "FINISHED")
    server.errors["log_file"] = MlflowException("too many 500 error responses")
    for _ in range(ATTEMPTS - 1):
        outbox.forward()
        assert server.methods == ["start_run"]
        clock.seconds += PAUSE_SECONDS
    outbox.forward()
    assert server.methods == ["start_run", "end_run"]


def test_forward_server_away_for_long_gives_nothing_up(
    outbox: Outbox, server: FakeServer, clock: Clock
) -> None:
    server.away = True
    outbox.journal.start_run("law", {})
    for _ in range(ATTEMPTS * 3):
        outbox.forward()
        clock.seconds += PAUSE_SECONDS
    server.away = False
    outbox.forward()
    assert server.methods == ["start_run"]


def test_forward_run_that_is_refused_takes_its_calls_and_children_along(
    outbox: Outbox, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.errors["start_run"] = RestException({"error_code": "PERMISSION_DENIED", "message": "no"})
    parent = outbox.journal.start_run("law", {})
    outbox.forward()
    server.errors.clear()
    child = outbox.journal.start_run("distill", {}, parent=parent)
    log_step(outbox, child, 1)
    assert server.taken == []
    assert outbox.server_id(parent) == ""
    assert len(caplog.records) == 1


def test_forward_own_calls_go_before_what_others_left(
    tmp_path: Path, server: FakeServer, clock: Clock
) -> None:
    left = Journal.create(tmp_path, URI)
    left.start_run("earlier", {})
    left.end_open_runs("FINISHED")
    left._file.close()
    journals = [Journal.create(tmp_path, URI), *Journal.orphans(tmp_path, URI)]
    outbox = Outbox(journals, server, clock)
    outbox.journal.start_run("law", {})
    outbox.forward()
    names = [c.arguments["name"] for c in server.taken if c.method == "start_run"]
    assert names == ["law", "earlier"]
    assert not left.path.exists()


def test_close_server_away_keeps_the_journal_and_says_so(
    outbox: Outbox, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.away = True
    outbox.journal.start_run("law", {})
    with caplog.at_level(logging.WARNING):
        outbox.start()
        outbox.close()
    assert outbox.journal.path.exists()
    assert f"the next run sends 1 calls of {outbox.journal.path}" in caplog.text
    assert server.attempts <= 2


def http_error(status: int) -> HTTPError:
    response = Response()
    response.status_code = status
    return HTTPError("artifact", response=response)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (AWAY, False),
        (RestException({"error_code": "INVALID_PARAMETER_VALUE"}), True),
        (RestException({"error_code": "RESOURCE_DOES_NOT_EXIST"}), True),
        (RestException({"error_code": "TEMPORARILY_UNAVAILABLE"}), False),
        (RestException({"error_code": "UNAUTHENTICATED"}), False),
        (RestException({"error_code": "REQUEST_LIMIT_EXCEEDED"}), False),
        (RestException({"error_code": "ENDPOINT_NOT_FOUND"}), False),
        (http_error(404), True),
        (http_error(503), False),
        (ConnectionError("reset"), False),
        (FileNotFoundError("artifact"), True),
    ],
)
def test_refused_is_what_trying_again_does_not_change(error: Exception, expected: bool) -> None:
    assert refused(error) is expected
