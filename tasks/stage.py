"""Running one stage: look its key up, lock it, run it in its own process, commit what it wrote."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prefect.states import Completed, State

from raft_core.artifacts import ArtifactRef, StageSpec, Stopwatch, Store
from raft_core.config import FrozenConfig
from raft_core.errors import EXIT_BAD_INPUT, InputError, StageError
from raft_core.settings import Settings
from raft_core.stages import STAGES
from tasks.display import Display
from tasks.processes import StageProcess, StageProcesses
from tasks.tracking import StageTracker, Tracker

POLL_SECONDS = 0.1
LOG_TAIL = 15


@dataclass(frozen=True)
class RunContext:
    """What all stages of one flow run share.

    `slots` bounds how many processes run at once. `failures` holds the errors of failed stages,
    the first one first: once there is one, no further process starts.
    """

    settings: Settings
    store: Store
    tracker: Tracker
    display: Display
    processes: StageProcesses
    slots: threading.Semaphore = field(repr=False)
    failures: list[Exception] = field(default_factory=list)

    def for_settings(self, settings: Settings) -> RunContext:
        """The same run, slots and failures under other settings."""
        return replace(self, settings=settings)

    @contextmanager
    def noting_failure(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.failures.append(error)
            raise


@contextmanager
def open_context(settings: Settings, tracker: Tracker) -> Iterator[RunContext]:
    """Display, tracking, processes and store of one flow run, open as long as it lasts."""
    runtime = settings.runtime
    with Display() as display, tracker, StageProcesses(runtime) as processes:
        slots = threading.Semaphore(runtime.parallel_stages)
        store = Store(runtime.home_folder / "store")
        context = RunContext(settings, store, tracker, display, processes, slots)
        with context.noting_failure():
            yield context


def run_stage(
    context: RunContext,
    stage: str,
    config: FrozenConfig,
    inputs: Mapping[str, ArtifactRef],
    label: str | None = None,
) -> State:
    """The stage's artifact as a Prefect state, named Cached when the store already holds it."""
    with context.noting_failure():
        found, cached = artifact_of(context, stage, config, inputs, label or stage)
    return Completed(name="Cached" if cached else None, data=found, message=f"{stage} {found.key}")


def artifact_of(
    context: RunContext,
    stage: str,
    config: FrozenConfig,
    inputs: Mapping[str, ArtifactRef],
    label: str,
) -> tuple[ArtifactRef, bool]:
    """The stage's artifact, and whether the store already held it.

    The store decides, not Prefect: an artifact that is gone or altered is computed again.
    """
    spec = STAGES[stage].spec(config, inputs, context.settings.runtime)
    with ExitStack() as stack:
        stack.enter_context(context.store.lock(spec))
        found = context.store.find(spec)
        cached = found is not None
        tracked = stack.enter_context(context.tracker.stage(label, spec, cached=cached))
        if found is None:
            stack.enter_context(context.slots)
            if context.failures:
                raise StageError(f"stage '{label}' was not started: another stage failed")
            found = compute(context, spec, label, tracked)
        else:
            context.display.cached(label)
        tracked.log_artifact(found)
    return found, cached


def compute(context: RunContext, spec: StageSpec, label: str, tracked: StageTracker) -> ArtifactRef:
    """Run the stage's process to its end and commit its folder.

    Raises:
        StageError: it failed; its work folder stays, so that it can resume.
        InputError: it refused its input.
    """
    work = context.store.work_folder(spec)
    shutil.rmtree(work / "out", ignore_errors=True)
    (work / "events.jsonl").unlink(missing_ok=True)
    (work / "spec.json").write_text(spec.model_dump_json(indent=1))
    watch = Stopwatch()
    process = context.processes.start(spec, work, work / "log.txt")
    try:
        for event in follow(process, work / "events.jsonl"):
            handle(event, label, context, tracked)
    finally:
        if process.poll() is None:
            process.kill()
        code = process.wait()
    if code != 0:
        context.display.failed(label)
        raise failure(label, code, work / "log.txt")
    context.display.finished(label, watch.seconds)
    return context.store.commit(spec, work, watch.seconds)


def follow(process: StageProcess, events: Path) -> Iterator[dict[str, Any]]:
    """Events as the process writes them, until it ends."""
    position, partial = 0, ""
    while True:
        ended = process.poll() is not None
        if events.is_file():
            with open(events, encoding="utf-8") as handle:
                handle.seek(position)
                partial += handle.read()
                position = handle.tell()
            *complete, partial = partial.split("\n")
            yield from (json.loads(line) for line in complete if line)
        if ended:
            return
        time.sleep(POLL_SECONDS)


def handle(event: dict[str, Any], label: str, context: RunContext, tracked: StageTracker) -> None:
    if event["kind"] == "progress":
        context.display.progress(label, event["done"], event["total"])
    elif event["kind"] == "metrics":
        tracked.live_metrics(event["step"], event["values"])
    elif event["kind"] == "note":
        context.display.note(event["text"])


def failure(label: str, code: int, log: Path) -> StageError | InputError:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if told and code == EXIT_BAD_INPUT:
        return InputError(told[-1])
    if told and code == StageError.exit_code:
        return StageError(f"stage '{label}': {told[-1]} (its log is {log})")
    tail = "\n".join(lines[-LOG_TAIL:])
    return StageError(f"stage '{label}' ended with code {code}; its log is {log}:\n{tail}")
