"""Make the artifact of a specification: look it up, lock it, run it in its own process, commit it.

`execute` is the only way in which a specification becomes an artifact, under Prefect and without
it, on this machine and for a flow elsewhere.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from raft_core.config.runtime import RuntimeConfig
from raft_core.errors import EXIT_BAD_INPUT, InputError, StageError, UnwellError
from raft_core.execution.listener import Listener
from raft_core.execution.processes import StageProcess, StageProcesses
from raft_core.execution.slots import Slots
from raft_core.execution.stage import Stage
from raft_core.store.artifacts import ArtifactRef, StageSpec, Stopwatch, Store
from raft_core.store.private_files import keep_private
from raft_core.store.shared import open_store

POLL_SECONDS = 0.1
LOG_TAIL = 15
TRACEBACK = "Traceback (most recent call last)"


class Remote(NamedTuple):
    """Another place, where `run` makes the artifact of a specification and stores it for all."""

    where: str
    run: Callable[[StageSpec, str], None]


class Failures(list[Exception]):
    """The errors of failed stages, the first one first.

    What is part of a run (`within`) stops with it; the run need not stop with its part.
    """

    def __init__(self, within: Failures | None = None) -> None:
        super().__init__()
        self._within = within

    def __bool__(self) -> bool:
        return len(self) > 0 or bool(self._within)


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What the stages of one run share.

    `stages` are all that there are, by name. `slots` bounds how many processes run at once.
    `remote` tells who runs a specification elsewhere, if anybody does. Once there are `failures`,
    no further process starts.
    """

    runtime: RuntimeConfig
    store: Store
    stages: Mapping[str, Stage]
    processes: StageProcesses
    slots: Slots = field(repr=False)
    listeners: tuple[Listener, ...] = ()
    remote: Callable[[StageSpec], Remote | None] = field(default=lambda _: None, repr=False)
    failures: Failures = field(default_factory=lambda: Failures())

    def tell(self, what: str, *about: Any) -> None:
        """Call this method of every listener."""
        for listener in self.listeners:
            getattr(listener, what)(*about)

    def slot(self, spec: StageSpec) -> AbstractContextManager[Any]:
        """Return what a stage's process waits for."""
        stage = self.stages[spec.stage]
        return nullcontext() if stage.light else self.slots.hold(stage.rank(spec))

    @contextmanager
    def noting_failure(self) -> Iterator[None]:
        """Keep an error that ends the block, so that no further stage starts."""
        try:
            yield
        except Exception as error:
            self.failures.append(error)
            raise


class Made(NamedTuple):
    """An artifact, and whether the store already held it."""

    artifact: ArtifactRef
    cached: bool


@contextmanager
def open_execution(
    runtime: RuntimeConfig,
    stages: Mapping[str, Stage],
    listeners: Sequence[Listener] = (),
    remote: Callable[[StageSpec], Remote | None] = lambda _: None,
) -> Iterator[Execution]:
    """Open store and processes of one run for as long as it lasts.

    Raises:
        InputError: the store cannot be reached; nothing has been started then.
    """
    keep_private(runtime.home_folder)
    store = open_store(runtime)
    with store.in_use(), ExitStack() as stack:
        for listener in listeners:
            stack.enter_context(listener)
        processes = stack.enter_context(StageProcesses(runtime, stages))
        run = Execution(
            runtime=runtime,
            store=store,
            stages=stages,
            processes=processes,
            slots=Slots(runtime.parallel_stages),
            listeners=tuple(listeners),
            remote=remote,
        )
        with run.noting_failure():
            yield run


def execute(run: Execution, spec: StageSpec, label: str = "") -> Made:
    """Return the artifact of a specification: found in the store, or made here or elsewhere.

    The store alone decides: an artifact that is gone or altered is made again.

    Raises:
        StageError: the stage failed, or another one of the run has.
        InputError: the stage refused its input.
    """
    label = label or spec.stage

    def waiting() -> None:
        run.tell("note", f"{label}: another run is making it, which is waited for")

    with ExitStack() as held:
        held.enter_context(run.store.lock(spec, waiting))
        found = run.store.find(spec)
        if found is not None:
            run.tell("cached", label, spec, found)
            return Made(found, cached=True)
        remote = run.remote(spec)
        if remote is None:
            with run.slot(spec):
                _require_no_failure(run, label)
                run.tell("started", label, spec)
                made = _told(run, spec, label, lambda: run_local(run, spec, label))
            return Made(made, cached=False)
    # Without the lock, which is the other machine's to take.
    _require_no_failure(run, label)
    run.tell("note", f"{label}: in {remote.where}")
    return Made(_told(run, spec, label, lambda: run_remote(run, remote, spec, label)), False)


def _require_no_failure(run: Execution, label: str) -> None:
    if run.failures:
        raise StageError(f"stage '{label}' was not started: another stage failed")


def _told(
    run: Execution, spec: StageSpec, label: str, make: Callable[[], ArtifactRef]
) -> ArtifactRef:
    """Make an artifact, and tell the listeners how that ended."""
    watch = Stopwatch()
    try:
        made = make()
    except BaseException as error:
        run.tell("failed", label, spec, error)
        raise
    run.tell("ended", label, spec, made, watch.seconds)
    return made


def run_remote(run: Execution, remote: Remote, spec: StageSpec, label: str) -> ArtifactRef:
    """Have the artifact made elsewhere, and fetch it from the shared store.

    Raises:
        StageError: it failed there.
    """
    remote.run(spec, label)
    return run.store.fetch(spec.stage, spec.key)


def run_local(run: Execution, spec: StageSpec, label: str) -> ArtifactRef:
    """Run the stage's process to its end and commit its folder.

    Raises:
        StageError: it failed; its work folder stays, so that it can resume.
        InputError: it refused its input.
    """
    work = run.store.work_folder(spec)
    shutil.rmtree(work / "out", ignore_errors=True)
    (work / "events.jsonl").unlink(missing_ok=True)
    (work / "spec.json").write_text(spec.model_dump_json(indent=1))
    log, watch = work / "log.txt", Stopwatch()
    begun = log.stat().st_size if log.is_file() else 0
    process = run.processes.start(spec, work, log)
    try:
        for event in follow(process, work / "events.jsonl"):
            run.tell("heard", label, spec, event)
    finally:
        if process.poll() is None:
            process.kill()
        code = process.wait()
    if code != 0:
        raise failure(label, code, log, begun)
    return run.store.commit(spec, work, watch.seconds)


def follow(process: StageProcess, events: Path) -> Iterator[dict[str, Any]]:
    """Yield events as the process writes them, until it ends."""
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


def failure(label: str, code: int, log: Path, begun: int = 0) -> StageError | InputError:
    """Return what a stage said of its end; its part of the log begins at `begun`."""
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
    """Return whether a traceback follows the last error that was told."""
    ends = [n for n, line in enumerate(lines) if line.startswith(("error: ", TRACEBACK))]
    return lines[ends[-1]].startswith(TRACEBACK)
