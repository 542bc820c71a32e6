"""What ends a stage at an endpoint: a budget, a refusal, silence; and what never costs more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raft_core.config.runtime import EndpointBudget, EndpointRuntime, RuntimeConfig
from raft_core.engines import open_generator
from raft_core.engines.base import Completion, GenerationRequest, OpenAIConfig, Sampling
from raft_core.errors import EngineError
from raft_core.execution.budget import Account, BudgetSpent
from raft_core.execution.progress import Progress
from raft_core.execution.stage import StageRun
from tests.endpoints import Asked, Reply, endpoint, refused, said

CONFIG = OpenAIConfig(endpoint="here", model="some-model")
KEY = "sk-of-the-test"


class Served:
    """A stage at an endpoint; it remembers what it was asked for."""

    def __init__(
        self, folder: Path, answer: Callable[[Asked], Reply], **endpoint_runtime: Any
    ) -> None:
        self.folder, self._answer, self._lock = folder, answer, threading.Lock()
        self._runtime: dict[str, Any] = {"concurrency": 1, "max_retries": 0} | endpoint_runtime
        self.asked: list[Asked] = []
        self.times: list[float] = []

    def answer(self, asked: Asked) -> Reply:
        with self._lock:
            self.asked.append(asked)
            self.times.append(time.monotonic())
        return self._answer(asked)

    @property
    def prompts(self) -> list[str]:
        return [asked.prompt for asked in self.asked if asked.body is not None]

    def stage(self, url: str) -> StageRun:
        here = EndpointRuntime(base_url=url, **self._runtime)
        runtime = RuntimeConfig(endpoints={"here": here})
        return StageRun(None, {}, self.folder, self.folder, runtime, Progress(None))

    def ask(self, *prompts: str) -> list[Completion]:
        with endpoint(self.answer) as url:
            return ask(self.stage(url), *prompts)


def ask(stage: StageRun, *prompts: str, config: OpenAIConfig = CONFIG) -> list[Completion]:
    generator = open_generator(config, stage)
    try:
        return generator.generate([GenerationRequest(p) for p in prompts], Sampling(max_tokens=9))
    finally:
        generator.close()


def questions(count: int) -> list[str]:
    return [f"q{n}" for n in range(count)]


def echo(asked: Asked) -> Reply:
    return said(f"re: {asked.prompt}", tokens=10)


def test_budget_of_requests_ends_the_stage_and_the_next_run_asks_only_for_the_rest(
    tmp_path: Path,
) -> None:
    served = Served(tmp_path, echo, budget={"requests": 4})
    with pytest.raises(EngineError) as ended:
        served.ask(*questions(6))
    assert "runtime.endpoints.here.budget.requests = 4 is used up" in str(ended.value)
    assert "spent 4 requests, 40 tokens" in str(ended.value)
    assert "What was answered is kept" in str(ended.value)
    again = Served(tmp_path, echo, budget={"requests": 4})
    assert [c.text for c in again.ask(*questions(6))] == [f"re: q{n}" for n in range(6)]
    assert (served.prompts, again.prompts) == (questions(6)[:4], questions(6)[4:])


def test_budget_retries_count_as_requests(tmp_path: Path) -> None:
    def down(_: Asked) -> Reply:
        return refused(500, "overloaded", retry_after_ms="1")

    served = Served(tmp_path, down, max_retries=9, budget={"requests": 4})
    with pytest.raises(EngineError, match=r"budget\.requests = 4 is used up"):
        served.ask("q")
    assert len(served.asked) == 4


def test_budget_is_not_exceeded_by_requests_in_flight(tmp_path: Path) -> None:
    served = Served(tmp_path, echo, concurrency=16, budget={"requests": 7})
    with pytest.raises(EngineError, match="spent 7 requests"):
        served.ask(*questions(64))
    assert len(served.asked) == 7


def test_budget_of_tokens_ends_the_stage_where_usage_reaches_it(tmp_path: Path) -> None:
    served = Served(tmp_path, echo, budget={"tokens": 25})
    with pytest.raises(EngineError, match=r"budget\.tokens = 25 is used up.*30 tokens"):
        served.ask(*questions(6))
    assert served.prompts == questions(3)  # 10, 20 and 30 tokens


def test_budget_of_tokens_wants_an_endpoint_that_counts_them(tmp_path: Path) -> None:
    served = Served(tmp_path, lambda _: said("hm"), budget={"tokens": 25})
    with pytest.raises(EngineError, match=r"'here' does not count tokens.*budget\.tokens"):
        served.ask(*questions(6))
    assert served.prompts == ["q0"]


def test_budget_is_one_for_all_models_of_a_stage_at_an_endpoint(tmp_path: Path) -> None:
    served = Served(tmp_path, echo, budget={"requests": 3})
    with endpoint(served.answer) as url:
        stage = served.stage(url)
        ask(stage, "q0", "q1")
        other = CONFIG.model_copy(update={"model": "another"})
        with pytest.raises(EngineError, match="spent 3 requests"):
            ask(stage, "q0", "q1", config=other)


def test_budget_of_seconds_counts_the_time_of_waiting_alone() -> None:
    now = [0.0]
    account = Account("here", EndpointBudget(seconds=5), lambda: now[0])
    with account.waiting():
        now[0] = 4.0
    now[0] = 100.0
    with account.waiting():
        account.admit()
        now[0] = 101.0  # 4 + 1 seconds
        with pytest.raises(BudgetSpent, match=r"budget\.seconds = 5 is used up.*and 5\.0 s"):
            account.admit()


@pytest.mark.parametrize("status", [401, 404])
def test_endpoint_unknown_key_or_model_is_asked_once(status: int, tmp_path: Path) -> None:
    served = Served(tmp_path, lambda _: refused(status, "no"), max_retries=4, max_failed_share=1)
    with pytest.raises(EngineError, match=str(status)):
        served.ask(*questions(50))
    assert served.prompts == ["q0"]


def test_endpoint_refused_key_error_names_endpoint_and_variable_without_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    served = Served(tmp_path, lambda _: refused(401, f"bad key {KEY}"), api_key_env="TEST_KEY")
    with pytest.raises(EngineError, match=r"'here'.*TEST_KEY is refused.*bad key \*\*\*") as ended:
        served.ask(*questions(3))
    assert KEY not in str(ended.value)


def test_endpoint_that_wants_a_key_error_names_the_field(tmp_path: Path) -> None:
    served = Served(tmp_path, lambda _: refused(401, "no key"))
    with pytest.raises(EngineError, match=r"wants a key.*runtime\.endpoints\.here\.api_key_env"):
        served.ask("q")


def test_endpoint_unknown_model_error_says_what_is_served(tmp_path: Path) -> None:
    def answer(asked: Asked) -> Reply:
        return Reply(body={"data": [{"id": "a"}, {"id": "b"}]}) if not asked.body else UNKNOWN

    with pytest.raises(EngineError, match=r"has no model 'some-model'; it serves: a, b"):
        Served(tmp_path, answer).ask(*questions(3))
    with pytest.raises(EngineError, match=r"base_url, which should end in /v1"):
        Served(tmp_path, lambda _: UNKNOWN).ask(*questions(3))


UNKNOWN = refused(404, "Not Found")


def test_endpoint_forbidden_row_costs_itself_and_many_in_a_row_the_stage(tmp_path: Path) -> None:
    def moderated(asked: Asked) -> Reply:
        return refused(403, "flagged") if asked.prompt.startswith("bad") else echo(asked)

    served = Served(tmp_path, moderated, max_failed_share=0.6)
    done = served.ask("bad0", "bad1", "good", "bad2", "good2")
    assert [c.finish_reason for c in done] == ["error", "error", "stop", "error", "stop"]
    with pytest.raises(EngineError, match="wants a key"):
        served.ask("bad3", "bad4", "bad5", "good3", "good4", "good5")
    assert served.prompts[-1] == "bad5"


def test_endpoint_that_is_gone_is_given_up_and_what_it_said_is_kept(tmp_path: Path) -> None:
    def dying(asked: Asked) -> Reply:
        return echo(asked) if int(asked.prompt[1:]) < 10 else Reply(cut=True)

    served = Served(tmp_path, dying)
    with pytest.raises(EngineError, match=r"'here'.*in a row had no answer.*Connection"):
        served.ask(*questions(100))
    assert len(served.asked) == 13
    again = Served(tmp_path, echo)
    assert {c.finish_reason for c in again.ask(*questions(100))} == {"stop"}
    assert again.prompts == questions(100)[10:]


def test_endpoint_overloaded_for_good_is_given_up_long_before_the_last_row(tmp_path: Path) -> None:
    served = Served(tmp_path, lambda _: refused(503, "overloaded"))
    with pytest.raises(EngineError, match="503"):
        served.ask(*questions(100))
    assert len(served.asked) == 16


def test_endpoint_wait_that_a_429_asks_for_is_kept(tmp_path: Path) -> None:
    first = iter([refused(429, "slow down", retry_after="1")])
    served = Served(tmp_path, lambda asked: next(first, echo(asked)), max_retries=1)
    assert served.ask("q")[0].text == "re: q"
    assert served.times[1] - served.times[0] >= 1  # without the header at most half a second


def test_endpoint_prompt_that_does_not_fit_costs_its_row_and_is_no_failure(tmp_path: Path) -> None:
    def answer(asked: Asked) -> Reply:
        return refused(400, TOO_LONG) if asked.prompt == "long" else echo(asked)

    long, short = Served(tmp_path, answer, max_failed_share=0).ask("long", "short")
    assert (long.finish_reason, long.text, short.finish_reason) == ("too_long", "", "stop")
    assert "8192 tokens" in long.error


TOO_LONG = "This model's maximum context length is 8192 tokens. However, your prompt has 9000."


@pytest.mark.parametrize(
    ("content", "message", "text", "error"),
    [
        ("<think>Is 5 right?</think>\n\ncorrect", {}, "correct", ""),
        ("template has opened it</think>correct", {}, "correct", ""),
        ("correct", {"reasoning_content": "It says 5, incorrect?"}, "correct", ""),
        ("<think>It says", {}, "", "reasoning without an answer"),
        (None, {"reasoning_content": "incorrect"}, "", "reasoning without an answer"),
        (None, {"reasoning": "incorrect"}, "", "reasoning without an answer"),
        ("  ", {}, "", "an empty answer"),
    ],
)
def test_endpoint_reasoning_is_not_the_answer(
    content: str | None, message: dict[str, str], text: str, error: str, tmp_path: Path
) -> None:
    (done,) = Served(tmp_path, lambda _: said(content, **message)).ask("q")
    assert (done.text, done.error) == (text, error)
