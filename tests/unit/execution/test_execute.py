"""A stage's process: what it writes is followed, and how it ends is told."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from raft_core.app.pipeline import STAGES
from raft_core.config.runtime import RuntimeConfig
from raft_core.errors import InputError, StageError, UnwellError
from raft_core.execution.execute import (
    Execution,
    Remote,
    execute,
    failure,
    follow,
    open_execution,
)
from raft_core.execution.listener import Listener
from raft_core.execution.slots import Slots
from raft_core.refine.gather import GatherStage
from raft_core.store.artifacts import ArtifactRef, StageSpec

ROOT = Path(__file__).resolve().parents[3]


def test_follow_yields_events_until_the_process_ends(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    code = (
        "import sys, time\n"
        "with open(sys.argv[1], 'a', buffering=1) as f:\n"
        "    for n in range(3): f.write('{\"n\": %d' % n); time.sleep(0.15); f.write('}\\n')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(events)])
    assert [event["n"] for event in follow(process, events)] == [0, 1, 2]
    assert process.returncode == 0


def test_follow_process_that_writes_nothing_ends(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    assert not list(follow(process, tmp_path / "none"))


def test_failure_refused_input_is_the_users_error(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("warning: x\nerror: no row fits\n")
    error = failure("distill raft", 2, log)
    assert isinstance(error, InputError)
    assert str(error) == "no row fits"


def test_failure_that_the_stage_told_is_told_without_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("loading\nerror: endpoint 'judges': 9 of 9 requests failed\n")
    error = failure("fuse", 1, log)
    assert isinstance(error, StageError)
    assert str(error) == (
        f"stage 'fuse': endpoint 'judges': 9 of 9 requests failed (its log is {log})"
    )


def test_failure_of_a_training_that_ended_itself_is_told_apart(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("error: training was stopped at step 3\n")
    assert type(failure("distill raft", 5, log)) is UnwellError
    assert type(failure("distill raft", 1, log)) is StageError


def test_failure_of_this_attempt_is_not_that_of_the_one_before(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("error: the disk is full\n")
    begun = log.stat().st_size
    with open(log, "a") as handle:
        handle.write("Traceback (most recent call last):\nRuntimeError: CUDA\n")
    assert "the disk is full" not in str(failure("distill raft", 1, log, begun))
    assert "RuntimeError: CUDA" in str(failure("distill raft", 1, log, begun))
    assert "RuntimeError: CUDA" in str(failure("distill raft", 1, log))


@pytest.mark.parametrize("code", [1, 2, -9])
def test_failure_anything_else_names_stage_code_and_log(tmp_path: Path, code: int) -> None:
    log = tmp_path / "log.txt"
    log.write_text("\n".join(f"line {n}" for n in range(40)))
    error = failure("distill raft", code, log)
    assert isinstance(error, StageError)
    assert f"'distill raft' ended with code {code}; its log is {log}" in str(error)
    assert "line 39" in str(error)
    assert "line 10\n" not in str(error)


def test_failure_of_a_stage_that_runs_is_its_message(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(json.dumps({"stage": "prepare", "version": 1}))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "raft_core", "prepare", "--spec", str(tmp_path / "spec.json")),
            *("--out", str(tmp_path / "out")),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "identity" in done.stderr


def test_stage_process_ends_with_the_one_that_started_it() -> None:
    stage = "import time; from raft_core.__main__ import exit_with_parent as e; e(); time.sleep(60)"
    starter = (
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen([sys.executable, '-c', {stage!r}])\n"
        "print(p.pid, flush=True); time.sleep(3)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", starter], capture_output=True, text=True, cwd=ROOT, check=True
    )
    stat = Path(f"/proc/{int(done.stdout)}/stat")
    deadline = time.monotonic() + 10
    while stat.exists() and stat.read_text().split()[2] != "Z" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not stat.exists() or stat.read_text().split()[2] == "Z"


def test_slot_light_stage_does_not_wait_for_the_others() -> None:
    slots = Slots(1)
    context = Execution(
        runtime=RuntimeConfig(), store=None, stages=STAGES, processes=None, slots=slots
    )

    def spec(stage: str) -> StageSpec:
        return StageSpec(stage=stage, version=1, config={}, identity={})

    with context.slot(spec("fuse")), context.slot(spec("lineage")):
        pass


class Heard(Listener):
    """Notes what it hears, in order."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(f"note {text}")

    def cached(self, label: str, spec: StageSpec, found: ArtifactRef) -> None:
        self.told.append(f"cached {label}")

    def started(self, label: str, spec: StageSpec) -> None:
        self.told.append(f"started {label}")

    def ended(self, label: str, spec: StageSpec, made: ArtifactRef, seconds: float) -> None:
        self.told.append(f"ended {label}")

    def failed(self, label: str, spec: StageSpec, error: BaseException) -> None:
        self.told.append(f"failed {label}: {type(error).__name__}")


GATHER = STAGES["gather"]


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RuntimeConfig:
    for name in ("RAFT_HOME", "RAFT_STORE"):
        monkeypatch.delenv(name, raising=False)
    return RuntimeConfig(device="cpu", home=str(tmp_path / "home"))


def gathering(folder: Path, runtime: RuntimeConfig, **inputs: str) -> StageSpec:
    """A specification of a stage that loads no model: shards of a fusion become one."""
    refs = {name: ArtifactRef(stage=name, key="k", path=str(folder / name)) for name in inputs}
    return GATHER.spec(GatherStage(), refs, runtime)


def test_execute_failed_stage_is_told_and_none_starts_after_it(
    tmp_path: Path, runtime: RuntimeConfig
) -> None:
    heard = Heard()
    spec = gathering(tmp_path, runtime, prepare="")  # its folder is not there
    with open_execution(runtime, STAGES, (heard,)) as run:
        with pytest.raises(StageError), run.noting_failure():
            execute(run, spec, "gather it")
        with pytest.raises(StageError, match="was not started: another stage failed"):
            execute(run, spec, "the next")
    assert heard.told == ["started gather it", "failed gather it: StageError"]


def test_execute_elsewhere_gives_the_artifact_that_the_store_then_holds(
    tmp_path: Path, runtime: RuntimeConfig
) -> None:
    heard, asked = Heard(), list[str]()
    spec = gathering(tmp_path, runtime)
    with open_execution(runtime, STAGES, (heard,)) as run:

        def elsewhere(spec: StageSpec, label: str) -> None:
            with run.store.lock(spec):  # it is free for the other machine
                work = run.store.work_folder(spec)
                (work / "out" / "rows.jsonl").write_text("{}\n")
                run.store.commit(spec, work, 1.0)
            asked.append(label)

        away = replace(run, remote=lambda _: Remote("work pool far", elsewhere))
        first, second = (execute(away, spec, "gather") for _ in range(2))
    assert (first.cached, second.cached) == (False, True)
    assert first.artifact == second.artifact
    assert asked == ["gather"]
    assert heard.told == ["note gather: in work pool far", "ended gather", "cached gather"]
