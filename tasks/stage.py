"""Running one stage: look its key up, lock it, run it in its own process, commit what it wrote."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from prefect.states import Completed, State

from raft_core.app.document_settings import DocumentSettings
from raft_core.app.settings import Settings
from raft_core.app.stages import STAGES
from raft_core.config.base import FrozenConfig
from raft_core.config.runtime import RuntimeConfig
from raft_core.errors import EXIT_BAD_INPUT, InputError, StageError, UnwellError
from raft_core.store.artifacts import ArtifactRef, StageSpec, Stopwatch, Store
from raft_core.store.private_files import keep_private
from raft_core.store.shared import open_store
from tasks.display import Display
from tasks.generations import Generations
from tasks.pools import pool_for, run_in_pool
from tasks.processes import StageProcess, StageProcesses
from tasks.slots import Slots, rank_of
from tasks.tracking import StageTracker, Tracker

POLL_SECONDS = 0.1
LOG_TAIL = 15
TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True, kw_only=True)
class StageContext:
    """What all stages of one flow run share.

    `slots` bounds how many processes run at once. `failures` holds the errors of failed stages,
    the first one first: once there is one, no further process starts. `generations` counts what
    the stages asked of their models.
    """

    runtime: RuntimeConfig
    store: Store
    tracker: Tracker
    display: Display
    processes: StageProcesses
    slots: Slots = field(repr=False)
    failures: list[Exception] = field(default_factory=list)
    generations: Generations = field(default_factory=Generations)

    def slot(self, spec: StageSpec) -> AbstractContextManager[Any]:
        """What a stage's process waits for."""
        return nullcontext() if STAGES[spec.stage].light else self.slots.hold(rank_of(spec))

    @contextmanager
    def noting_failure(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.failures.append(error)
            raise


@dataclass(frozen=True, kw_only=True)
class RunContext(StageContext):
    """A flow run of the pipeline or of a preparation: its settings say what its stages do."""

    settings: Settings | DocumentSettings

    def for_settings(self, settings: Settings) -> RunContext:
        """The same run, slots and failures under other settings."""
        return replace(self, settings=settings)


@contextmanager
def open_context(settings: Settings | DocumentSettings, tracker: Tracker) -> Iterator[RunContext]:
    """Display, tracking, processes and store of one flow run, open as long as it lasts."""
    with open_stages(settings.runtime, tracker) as stages:
        shared = {f.name: getattr(stages, f.name) for f in fields(stages)}
        yield RunContext(settings=settings, **shared)


@contextmanager
def open_stages(runtime: RuntimeConfig, tracker: Tracker) -> Iterator[StageContext]:
    """The same for stages whose specifications are made already.

    Raises:
        InputError: the store cannot be reached; nothing has been started then.
    """
    keep_private(runtime.home_folder)
    store = open_store(runtime)
    with store.in_use(), Display() as display, tracker, StageProcesses(runtime) as processes:
        context = StageContext(
            runtime=runtime,
            store=store,
            tracker=tracker,
            display=display,
            processes=processes,
            slots=Slots(runtime.parallel_stages),
        )
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
    """The stage's artifact, and whether the store already held it."""
    spec = STAGES[stage].spec(config, inputs, context.settings.runtime)
    return artifact_for(context, spec, label)


def artifact_for(context: StageContext, spec: StageSpec, label: str) -> tuple[ArtifactRef, bool]:
    """The artifact of a specification: found in the store, or made here or in a work pool.

    The store decides, not Prefect: an artifact that is gone or altered is computed again.
    """
    with ExitStack() as stack:
        stack.enter_context(context.store.lock(spec, waiting(context, label)))
        found = context.store.find(spec)
        pool = pool_for(spec.stage, context.runtime) if found is None else None
        if pool is None:
            return here(context, spec, label, found), found is not None
    # Without the lock, which is the pool's to take.
    return elsewhere(context, spec, label, pool), False


def waiting(context: StageContext, label: str) -> Callable[[], None]:
    """What to do where another process holds the key."""
    return lambda: context.display.note(f"{label}: another run is making it, which is waited for")


def here(
    context: StageContext, spec: StageSpec, label: str, found: ArtifactRef | None
) -> ArtifactRef:
    """The artifact that was found, or that a process of this machine makes."""
    with context.tracker.stage(label, spec, cached=found is not None) as tracked:
        if found is None:
            with context.slot(spec):
                require_no_failure(context, label)
                found = compute(context, spec, label, tracked)
        else:
            context.display.cached(label)
        tracked.log_artifact(found)
    return found


def elsewhere(context: StageContext, spec: StageSpec, label: str, pool: str) -> ArtifactRef:
    """The artifact that a worker of another pool makes, through the shared store."""
    require_no_failure(context, label)
    context.display.note(f"{label}: in work pool {pool}")
    watch = Stopwatch()
    try:
        run_in_pool(pool, spec, context.runtime, label, context.tracker.run_id)
    except StageError:
        context.display.failed(label)
        raise
    context.display.finished(label, watch.seconds)
    return context.store.fetch(spec.stage, spec.key)


def require_no_failure(context: StageContext, label: str) -> None:
    if context.failures:
        raise StageError(f"stage '{label}' was not started: another stage failed")


def compute(
    context: StageContext, spec: StageSpec, label: str, tracked: StageTracker
) -> ArtifactRef:
    """Run the stage's process to its end and commit its folder.

    Raises:
        StageError: it failed; its work folder stays, so that it can resume.
        InputError: it refused its input.
    """
    work = context.store.work_folder(spec)
    shutil.rmtree(work / "out", ignore_errors=True)
    (work / "events.jsonl").unlink(missing_ok=True)
    (work / "spec.json").write_text(spec.model_dump_json(indent=1))
    log, watch = work / "log.txt", Stopwatch()
    begun = log.stat().st_size if log.is_file() else 0
    process = context.processes.start(spec, work, log)
    try:
        for event in follow(process, work / "events.jsonl"):
            handle(event, label, spec, context, tracked)
    finally:
        if process.poll() is None:
            process.kill()
        code = process.wait()
    if code != 0:
        context.display.failed(label)
        raise failure(label, code, log, begun)
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


def handle(
    event: dict[str, Any],
    label: str,
    spec: StageSpec,
    context: StageContext,
    tracked: StageTracker,
) -> None:
    if event["kind"] == "progress":
        context.display.progress(label, event["done"], event["total"])
    elif event["kind"] == "metrics":
        tracked.live_metrics(event["step"], event["values"])
    elif event["kind"] == "generation":
        context.generations.note(spec, event)
        tracked.live_metrics(0, {f"generation.{k}": n for k, n in event.items() if k != "kind"})
    elif event["kind"] == "note":
        context.display.note(event["text"])
        tracked.note(event["text"])


def failure(label: str, code: int, log: Path, begun: int = 0) -> StageError | InputError:
    """What a stage said of its end; `begun` is where this attempt's part of the log begins."""
    with open(log, "rb") as handle:
        handle.seek(begun)
        lines = handle.read().decode("utf-8", errors="replace").splitlines()
    told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if told and code == EXIT_BAD_INPUT:
        return InputError(told[-1])
    kinds = {kind.exit_code: kind for kind in (StageError, UnwellError)}
    if told and code in kinds and not crashed(lines):
        return kinds[code](f"stage '{label}': {told[-1]} (its log is {log})")
    tail = "\n".join(lines[-LOG_TAIL:])
    return StageError(f"stage '{label}' ended with code {code}; its log is {log}:\n{tail}")


def crashed(lines: Sequence[str]) -> bool:
    """Whether a traceback follows the last error that was told."""
    ends = [n for n, line in enumerate(lines) if line.startswith(("error: ", TRACEBACK))]
    return lines[ends[-1]].startswith(TRACEBACK)
