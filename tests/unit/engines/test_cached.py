"""A stage's generator: only what is missing reaches the engine, and what it said is kept."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from raft_core.config.runtime import RuntimeConfig
from raft_core.engines.base import (
    Completion,
    FollowUp,
    GenerationRequest,
    OnCompletion,
    Sampling,
    VllmConfig,
    failed,
)
from raft_core.engines.cached import FLUSH_COMPLETIONS, CachedGenerator
from raft_core.execution.progress import Progress
from raft_core.execution.stage import StageRun

ROOT = Path(__file__).resolve().parents[3]
CONFIG = VllmConfig(model={"path": "mini:base"})
GREEDY = Sampling()


class Echo:
    """Answers with prompt and seed; remembers what it was asked; fails when it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.opened = self.closed = 0
        self.dies_after: int | None = None

    def open(self) -> Echo:
        self.opened += 1
        return self

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        sampling: Sampling,
        *,
        choices: Sequence[str] | None = None,
        json_schema: Any = None,
        on_completion: OnCompletion | None = None,
    ) -> list[Completion]:
        assert on_completion is not None
        completions = [answer(request) for request in requests]
        # Short requests end first, wherever they stand.
        for done, position in enumerate(reversed(range(len(requests)))):
            if done == self.dies_after:
                raise KeyboardInterrupt
            self.asked.append(requests[position].prompt)
            on_completion(position, completions[position])
        return completions

    def close(self) -> None:
        self.closed += 1


def answer(request: GenerationRequest) -> Completion:
    if request.prompt == "fail":
        return failed("gone")
    if request.prompt == "long":
        return Completion("", (), "too_long", "999 prompt tokens")
    return Completion(f"{request.prompt}/{request.seed}", (request.seed,), "stop")


@pytest.fixture
def engine() -> Echo:
    return Echo()


def stage_of(folder: Path, **runtime: Any) -> StageRun:
    progress = Progress(folder / "events.jsonl")
    return StageRun(None, {}, folder, folder, RuntimeConfig(**runtime), progress)


@pytest.fixture
def stage(tmp_path: Path) -> StageRun:
    return stage_of(tmp_path)


def ask(engine: Echo, stage: StageRun, *prompts: str, **options: Any) -> list[str]:
    """Texts of the completions, asked of a new generator as another stage would."""
    generator = CachedGenerator(CONFIG, engine.open, stage)
    requests = [GenerationRequest(prompt, seed=7) for prompt in prompts]
    return [c.text for c in generator.generate(requests, GREEDY, **options)]


def counts(folder: Path) -> dict[str, int]:
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    last = [event for event in events if event["kind"] == "generation"][-1]
    return {name: value for name, value in last.items() if name != "kind"}


def test_cached_only_missing_requests_are_generated_and_the_order_is_kept(
    engine: Echo, stage: StageRun
) -> None:
    assert ask(engine, stage, "a", "b", "c") == ["a/7", "b/7", "c/7"]
    engine.asked.clear()
    assert ask(engine, stage, "d", "b", "e", "a") == ["d/7", "b/7", "e/7", "a/7"]
    assert sorted(engine.asked) == ["d", "e"]
    assert counts(stage.out) == {"requests": 7, "cached": 2, "generated": 5}


def test_cached_completion_is_found_whole(engine: Echo, stage: StageRun) -> None:
    requests = [GenerationRequest("a", seed=5)]
    first = CachedGenerator(CONFIG, engine.open, stage).generate(requests, GREEDY)
    assert CachedGenerator(CONFIG, engine.open, stage).generate(requests, GREEDY) == first
    assert first == [Completion("a/5", (5,), "stop")]


def test_cached_nothing_missing_opens_no_engine(engine: Echo, stage: StageRun) -> None:
    ask(engine, stage, "a", "b")
    assert ask(engine, stage, "b", "a") == ["b/7", "a/7"]
    assert engine.opened == 1


def test_cached_no_request_opens_no_engine(engine: Echo, stage: StageRun) -> None:
    assert ask(engine, stage) == []
    assert engine.opened == 0


def test_cached_equal_requests_are_generated_once_and_others_are_not_taken_for_them(
    engine: Echo, stage: StageRun
) -> None:
    done: list[int] = []
    requests = [GenerationRequest("a", seed) for seed in (1, 1, 2)]
    generator = CachedGenerator(CONFIG, engine.open, stage)
    completions = generator.generate(requests, GREEDY, on_done=done.append)
    assert [c.text for c in completions] == ["a/1", "a/1", "a/2"]
    assert engine.asked == ["a", "a"]
    assert sum(done) == 3
    assert counts(stage.out) == {"requests": 3, "cached": 1, "generated": 2}


def test_cached_progress_counts_found_requests_too(engine: Echo, stage: StageRun) -> None:
    ask(engine, stage, "a", "b")
    done: list[int] = []
    ask(engine, stage, "a", "c", "b", "long", on_done=done.append)
    assert done == [2, 1, 1]


@pytest.mark.parametrize("prompt", ["fail", "long"])
def test_cached_no_answer_is_asked_for_again(engine: Echo, stage: StageRun, prompt: str) -> None:
    for _ in range(2):
        assert ask(engine, stage, "a", prompt) == ["a/7", ""]
    assert sorted(engine.asked) == ["a", prompt, prompt]
    assert counts(stage.out) == {"requests": 4, "cached": 1, "generated": 3}


def test_cached_other_choices_or_sampling_are_other_answers(engine: Echo, stage: StageRun) -> None:
    ask(engine, stage, "a")
    ask(engine, stage, "a", choices=("yes", "no"))
    requests = [GenerationRequest("a", seed=7)]
    CachedGenerator(CONFIG, engine.open, stage).generate(requests, Sampling(max_tokens=3))
    assert engine.asked == ["a"] * 3


def test_cached_interrupted_stage_keeps_all_that_was_said(engine: Echo, stage: StageRun) -> None:
    prompts = [f"q{n}" for n in range(50)]
    engine.dies_after = 40
    with pytest.raises(KeyboardInterrupt):
        ask(engine, stage, *prompts)
    engine.dies_after = None
    engine.asked.clear()
    assert ask(engine, stage, *prompts) == [f"{prompt}/7" for prompt in prompts]
    assert sorted(engine.asked) == sorted(prompts[:10])


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.unit.engines.test_cached import Echo, ask, stage_of

class Killed(Echo):
    def generate(self, requests, sampling, *, choices, json_schema, on_completion):
        def until(position, completion):
            on_completion(position, completion)
            if len(self.asked) == 75:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().generate(requests, sampling, choices=choices, on_completion=until)

ask(Killed(), stage_of(Path(sys.argv[1])), *(f"q{n}" for n in range(100)))
"""


def test_cached_killed_stage_loses_one_flush_at_most(
    engine: Echo, stage: StageRun, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT, timeout=120).returncode == -signal.SIGKILL
    ask(engine, stage, *(f"q{n}" for n in range(100)))
    kept = 75 - 75 % FLUSH_COMPLETIONS
    assert 0 < kept < 75
    assert counts(tmp_path) == {"requests": 100, "cached": kept, "generated": 100 - kept}


def test_cached_switched_off_generates_again_and_writes_nothing(
    engine: Echo, tmp_path: Path
) -> None:
    stage = stage_of(tmp_path, cache_generations=False)
    for _ in range(2):
        assert ask(engine, stage, "a", "b") == ["a/7", "b/7"]
    assert sorted(engine.asked) == ["a", "a", "b", "b"]
    assert not stage.runtime.completions_file.exists()
    assert counts(tmp_path) == {"requests": 4, "cached": 0, "generated": 4}


def test_cached_damaged_file_costs_generating_again_and_a_note(
    engine: Echo, stage: StageRun
) -> None:
    ask(engine, stage, "a")
    stage.runtime.completions_file.write_bytes(b"broken" * 1000)
    for suffix in ("-wal", "-shm"):
        Path(f"{stage.runtime.completions_file}{suffix}").unlink(missing_ok=True)
    for _ in range(2):
        assert ask(engine, stage, "a") == ["a/7"]
    assert engine.asked == ["a", "a"]
    assert (stage.out / "events.jsonl").read_text().count("moved aside") == 1


def test_cached_close_frees_the_engine_and_asking_again_opens_it_anew(
    engine: Echo, stage: StageRun
) -> None:
    generator = CachedGenerator(CONFIG, engine.open, stage)
    generator.close()
    assert engine.closed == 0
    for seed in (1, 2):
        generator.generate([GenerationRequest("a", seed)], GREEDY)
        generator.close()
    assert (engine.opened, engine.closed) == (2, 2)


class Fed(Echo):
    """Answers one request at a time, the last that came first, and takes more in between."""

    def __init__(self) -> None:
        super().__init__()
        self.asked_idle: list[bool] = []

    def feed(
        self,
        requests: Sequence[GenerationRequest],
        sampling: Sampling,
        *,
        choices: Sequence[str] | None = None,
        json_schema: Any = None,
        on_completion: OnCompletion,
        follow_up: FollowUp,
    ) -> None:
        waiting, count = list(enumerate(requests)), len(requests)
        while True:
            idle = not waiting
            self.asked_idle.append(idle)
            more = follow_up(idle)
            if idle and not more:
                return
            waiting += enumerate(more, count)
            count += len(more)
            position, request = waiting.pop()
            self.asked.append(request.prompt)
            on_completion(position, answer(request))


class Chain:
    """Asks for a2 once a1 is there, then for a3, and for b likewise."""

    def __init__(self) -> None:
        self.done: dict[int, str] = {}
        self.prompts = ["a1", "b1"]
        self.unasked: list[str] = []

    def note(self, position: int, completion: Completion) -> None:
        assert position not in self.done
        self.done[position] = completion.text
        name, number = self.prompts[position]
        if number < "3":
            self.unasked.append(f"{name}{int(number) + 1}")

    def follow_up(self, idle: bool) -> list[GenerationRequest]:
        asked, self.unasked = self.unasked, []
        self.prompts += asked
        return [GenerationRequest(prompt, 7) for prompt in asked]


@pytest.mark.parametrize("kind", [Echo, Fed])
@pytest.mark.parametrize("known", [(), ("a1", "b2"), ("a1", "b1", "a2", "b2", "a3", "b3")])
def test_cached_follow_ups_are_completed_whoever_asks_for_them(
    stage: StageRun, kind: type[Echo], known: tuple[str, ...]
) -> None:
    ask(Echo(), stage, *known)
    engine, chain = kind(), Chain()
    generator = CachedGenerator(CONFIG, engine.open, stage)
    first = [GenerationRequest(prompt, 7) for prompt in chain.prompts]
    completions = generator.generate(
        first, GREEDY, on_completion=chain.note, follow_up=chain.follow_up
    )
    assert sorted(chain.prompts) == ["a1", "a2", "a3", "b1", "b2", "b3"]
    assert [c.text for c in completions] == [f"{prompt}/7" for prompt in chain.prompts]
    assert chain.done == dict(enumerate(c.text for c in completions))
    assert sorted(engine.asked) == sorted(set(chain.prompts) - set(known))
    assert counts(stage.out)["requests"] == 6 + len(known)


def test_cached_engine_that_feeds_is_given_more_before_it_is_idle(stage: StageRun) -> None:
    engine, chain = Fed(), Chain()
    first = [GenerationRequest(prompt, 7) for prompt in chain.prompts]
    CachedGenerator(CONFIG, engine.open, stage).generate(
        first, GREEDY, on_completion=chain.note, follow_up=chain.follow_up
    )
    assert engine.asked == ["b1", "b2", "b3", "a1", "a2", "a3"]
    assert engine.asked_idle[:3] == [False] * 3
