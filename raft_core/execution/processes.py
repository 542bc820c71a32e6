"""Starting a stage's process: a new interpreter, or a fork of one that imported everything."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, Any, Protocol

import raft_core
from raft_core.config.runtime import KEEP_MEMORY, RuntimeConfig
from raft_core.errors import StageError
from raft_core.execution.stage import Stage
from raft_core.store.artifacts import StageSpec

CLOSE_SECONDS = 2.0


class StageProcess(Protocol):
    """What `subprocess.Popen` and a forked stage have in common."""

    def poll(self) -> int | None: ...

    def wait(self) -> int: ...

    def kill(self) -> None: ...


# Servers that no flow has taken yet, by their command.
_EARLY: dict[tuple[str, ...], StageServer] = {}


def start_early(runtime: RuntimeConfig) -> None:
    """Start the server that forks the stages before the flow begins; the flow then takes it."""
    command = tuple(server_command(runtime))
    if runtime.forks_stages and command not in _EARLY:
        _EARLY[command] = StageServer(command, server_environment(runtime))


class StageProcesses:
    """Starts the stages of one flow; as a context manager it leaves no forked stage behind.

    With `runtime.preload` one server forks them all. It starts with the first stage, unless it was
    started early, and anew with the next one after it died. `server` replaces its command. Without
    `stages`, which say what each needs, a stage waits until all modules are loaded.
    """

    def __init__(
        self,
        runtime: RuntimeConfig,
        stages: Mapping[str, Stage] = MappingProxyType({}),
        server: Sequence[str] | None = None,
    ) -> None:
        self._runtime, self._stages = runtime, stages
        self._command = list(server or server_command(runtime))
        self._server = _EARLY.pop(tuple(self._command), None)
        self._closed = False
        self._guard = threading.Lock()

    def __enter__(self) -> StageProcesses:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._guard:
            self._closed = True
            if self._server is not None:
                self._server.close()

    def start(self, spec: StageSpec, work: Path, log: Path) -> StageProcess:
        """Run the stage of `work/spec.json`; what it prints is appended to `log`.

        Raises:
            StageError: the flow has ended.
        """
        arguments = stage_arguments(spec, work)
        with self._guard:
            if self._closed:
                raise StageError(f"stage '{spec.stage}' was not started: the flow has ended")
            if not self._runtime.forks_stages:
                command, env = [sys.executable, "-m", "raft_core"], environment(self._runtime)
                with open(log, "a") as output:
                    return subprocess.Popen(
                        [*command, *arguments],
                        stdin=subprocess.DEVNULL,  # no library asks a person
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        env=env,
                    )
            if self._server is None or self._server.ended:
                self._server = StageServer(self._command, server_environment(self._runtime))
            return self._server.run(arguments, log, self._needs(spec.stage))

    def _needs(self, stage: str) -> dict[str, list[str]]:
        """Return what a request says of the modules that the stage waits for; nothing: all."""
        packages = self._stages[stage].needs if stage in self._stages else None
        if packages is None:
            return {}
        return {"needs": [m for m in self._runtime.preload if m.partition(".")[0] in packages]}


class ForkedStage:
    """A stage that a server runs; `returncode` is as in `subprocess`, `pid` None until it runs."""

    def __init__(self, log: Path, kill: Callable[[], None]) -> None:
        self.log = log
        self.pid: int | None = None
        self.returncode: int | None = None
        self._kill = kill
        self._ended = threading.Event()

    def poll(self) -> int | None:
        return self.returncode

    def wait(self) -> int:
        self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        if self.returncode is None:
            self._kill()

    def end(self, code: int) -> None:
        self.returncode = code
        self._ended.set()


class StageServer:
    """One `raft_core.execution.stage_server` and the stages that it runs."""

    def __init__(self, command: Sequence[str], env: dict[str, str]) -> None:
        self.ended = False
        self._stages: dict[int, ForkedStage] = {}
        self._numbers = itertools.count()
        self._guard, self._sending = threading.Lock(), threading.Lock()
        started: Future[subprocess.Popen[bytes]] = Future()
        self._follower = threading.Thread(
            target=self._follow, args=(command, env, started), daemon=True
        )
        self._follower.start()
        self.process = started.result()

    def run(
        self, arguments: Sequence[str], log: Path, needs: Mapping[str, list[str]]
    ) -> ForkedStage:
        """A server that has ended ends the stage too: with code 1, and the reason in its log."""
        number = next(self._numbers)
        stage = ForkedStage(log, lambda: self._send(id=number, kill=True))
        with self._guard:
            if self.ended:
                _fail(stage, "had ended")
                return stage
            self._stages[number] = stage
        self._send(id=number, run=list(arguments), log=str(log), **needs)
        return stage

    def close(self) -> None:
        """End the server, which kills its stages."""
        with self._sending, suppress(BrokenPipeError):
            _pipe(self.process.stdin).close()
        try:
            self.process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._follower.join()

    def _send(self, **request: Any) -> None:
        # Whoever finds the pipe broken or closed need do nothing: the stages end with the server.
        with self._sending, suppress(BrokenPipeError, ValueError):
            pipe = _pipe(self.process.stdin)
            pipe.write(json.dumps(request).encode() + b"\n")
            pipe.flush()

    def _follow(
        self,
        command: Sequence[str],
        env: dict[str, str],
        started: Future[subprocess.Popen[bytes]],
    ) -> None:
        """Start the server and note what it tells until it ends.

        Both in this thread: the kernel ends the server with the thread that started it.
        """
        with tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=env
                )
            except OSError as error:
                started.set_exception(error)
                return
            started.set_result(process)
            for line in _pipe(process.stdout):
                self._note(json.loads(line))
            code = process.wait()
            errors.seek(0)
            told = errors.read().decode(errors="replace").strip().splitlines()
        with self._guard:
            self.ended = True
            left = list(self._stages.values())
            self._stages.clear()
        for stage in left:
            _fail(stage, f"ended with code {code}" + (f": {told[-1]}" if told else ""))

    def _note(self, event: dict[str, Any]) -> None:
        if event["event"] == "started":
            self._stages[event["id"]].pid = event["pid"]
        elif event["event"] == "ended":
            with self._guard:
                stage = self._stages.pop(event["id"])
            stage.end(event["returncode"])


def _fail(stage: ForkedStage, reason: str) -> None:
    with suppress(OSError), open(stage.log, "a") as log:
        log.write(f"error: the process that forks the stages (runtime.preload) {reason}\n")
    stage.end(StageError.exit_code)


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def server_command(runtime: RuntimeConfig) -> list[str]:
    command = [sys.executable, "-m", "raft_core.execution.stage_server"]
    command += ["--threads", str(runtime.threads_per_stage)]
    return command + [f"--import={module}" for module in runtime.preload]


def server_environment(runtime: RuntimeConfig) -> dict[str, str]:
    return environment(runtime) | runtime.vllm_environment()


def stage_arguments(spec: StageSpec, work: Path) -> list[str]:
    return [
        *(spec.stage, "--spec", str(work / "spec.json")),
        *("--out", str(work / "out")),
        *("--events", str(work / "events.jsonl")),
        "--exit-with-parent",
    ]


def environment(runtime: RuntimeConfig) -> dict[str, str]:
    """Memory that a stage frees it keeps, where that saves time."""
    kept = KEEP_MEMORY if runtime.device == "cpu" else {}
    return kept | os.environ | importable()


def importable() -> dict[str, str]:
    """What has another interpreter import the same code, wherever the flow was started from."""
    root = str(Path(raft_core.__file__).resolve().parent.parent)
    known = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{root}{os.pathsep}{known}" if known else root}
