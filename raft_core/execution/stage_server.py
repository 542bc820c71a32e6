"""`python -m raft_core.execution.stage_server --import torch`: one import, a fork a stage.

Requests are JSON lines on stdin, told apart by an id that the caller chooses:
`{"id": 1, "run": ARGUMENTS, "log": "log.txt"}` with the arguments of `raft_core.__main__`, and
`{"id": 1, "kill": true}`. Answers are JSON lines on stdout: `{"event": "ready"}` once all modules
are loaded, `{"event": "started", "id": 1, "pid": 7}` and
`{"event": "ended", "id": 1, "returncode": 0}`, a negative code for a signal. A stage waits until
all modules are loaded, or those that its request names in `needs`: the first stage of a flow needs
few. The end of stdin kills all stages and ends the server.

A fork copies the calling thread alone. So the server has one, and it runs no model: a lock or a
thread pool of OpenMP that another thread held would never be free again in the child.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import selectors
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

from raft_core.config.runtime import limit_threads
from raft_core.errors import EXIT_BAD_INPUT, EXIT_ORPHANED

Main = Callable[[list[str]], int]

# Found late: it imports numpy, which reads the limit of threads.
RAFT_MAIN = "raft_core.__main__"
PR_SET_PDEATHSIG = 1
READ_BYTES = 65536


def main(arguments: Sequence[str] | None = None, stage_main: Main | None = None) -> int:
    """Serve until stdin ends; `stage_main` replaces raft_core's own. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m raft_core.execution.stage_server")
    parser.add_argument("--import", action="append", dest="modules", default=[], metavar="MODULE")
    parser.add_argument("--threads", type=int, default=1, help="of a stage's thread pools")
    options = parser.parse_args(arguments)
    die_with_parent()
    requests, answers = private_pipes()
    limit_threads(options.threads)
    # Imports make many objects and hardly any garbage: looking for it takes a quarter of the time,
    # and in the children copies the pages that they share.
    gc.disable()
    # The memory pool of pyarrow has a thread of its own unless it is told not to.
    os.environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")
    return Server(requests, answers, stage_main).serve(options.modules)


def private_pipes() -> tuple[int, int]:
    """Descriptors of the real stdin and stdout, out of the way of modules that print."""
    requests, answers = os.dup(0), os.dup(1)
    redirect(os.devnull, os.O_RDONLY, 0)
    os.dup2(2, 1)
    return requests, answers


def redirect(path: str, flags: int, *descriptors: int) -> None:
    opened = os.open(path, flags, 0o666)
    for descriptor in descriptors:
        os.dup2(opened, descriptor)
    os.close(opened)


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends (Linux alone)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))


def raft_main(arguments: list[str]) -> int:
    main: Main = import_module(RAFT_MAIN).main
    return main(arguments)


class Server:
    """The loop over requests and children that end; it forks, and so must stay in one thread."""

    def __init__(self, requests: int, answers: int, stage_main: Main | None) -> None:
        self._requests, self._answers, self._main = requests, answers, stage_main or raft_main
        self._running: dict[int, int] = {}
        self._waiting: list[dict[str, Any]] = []
        self._missing: list[str] = []
        self._partial = b""
        self._wake, self._woken_by = os.pipe()
        for end in (self._wake, self._woken_by):
            os.set_blocking(end, False)
        self._interrupt = signal.getsignal(signal.SIGINT)

    def serve(self, modules: Sequence[str]) -> int:
        """Load the modules and run what is asked for, until the requests end; the exit code."""
        signal.set_wakeup_fd(self._woken_by, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # Ctrl-C goes to the stages, as it would without a server; the flow ends the server.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._missing = list(modules)
        try:
            # A broken pipe: nobody is left to be answered.
            with suppress(BrokenPipeError), selectors.SelectSelector() as selector:
                for source in (self._requests, self._wake):
                    selector.register(source, selectors.EVENT_READ)
                for module in modules:
                    if not self._attend_all(selector, timeout=0):
                        return 0
                    if not self._load(module):
                        return EXIT_BAD_INPUT
                import_module(RAFT_MAIN)
                self._answer(event="ready")
                self._start_waiting()
                while self._attend_all(selector):
                    pass
        finally:
            self._kill_all()
        return 0

    def _load(self, module: str) -> bool:
        """Import it, and start what waited for it; False for one that cannot be shared."""
        import_module(module)
        if threading.active_count() > 1:
            print(f"error: '{module}' starts threads: it cannot be preloaded", file=sys.stderr)
            return False
        self._missing.remove(module)
        if self._missing:
            self._start_waiting()
        return True

    def _attend_all(self, selector: selectors.SelectSelector, timeout: float | None = None) -> bool:
        """Read what there is, after at most `timeout` seconds; False once the requests ended."""
        return all([self._attend(key.fd) for key, _ in selector.select(timeout)])

    def _kill_all(self) -> None:
        for pid in self._running.values():
            os.kill(pid, signal.SIGKILL)
        for pid in self._running.values():
            os.waitpid(pid, 0)

    def _attend(self, source: int) -> bool:
        """False once the requests have ended."""
        read = os.read(source, READ_BYTES)
        if source == self._wake:
            self._reap()
            return True
        *lines, self._partial = (self._partial + read).split(b"\n")
        for line in lines:
            self._handle(json.loads(line))
        return bool(read)

    def _handle(self, request: dict[str, Any]) -> None:
        number = request["id"]
        if "run" in request:
            self._waiting.append(request)
            self._start_waiting()
        elif number in self._running:
            # Not reaped yet, so the number is still this child's.
            os.kill(self._running[number], signal.SIGKILL)
        elif any(waiting["id"] == number for waiting in self._waiting):
            self._waiting = [waiting for waiting in self._waiting if waiting["id"] != number]
            self._answer(event="ended", id=number, returncode=-signal.SIGKILL)

    def _start_waiting(self) -> None:
        """Start the stages whose modules are loaded."""
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            if set(self._missing) & set(request.get("needs", self._missing)):
                self._waiting.append(request)
            else:
                self._start(request["id"], request["run"], request["log"])

    def _start(self, number: int, arguments: list[str], log: str) -> None:
        gc.freeze()
        sys.stdout.flush()
        sys.stderr.flush()
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            end_with(lambda: self._become_stage(server, arguments, log))
        self._running[number] = pid
        self._answer(event="started", id=number, pid=pid)

    def _reap(self) -> None:
        for number, pid in list(self._running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._running[number]
                code = os.waitstatus_to_exitcode(status)
                self._answer(event="ended", id=number, returncode=code)

    def _answer(self, **answer: Any) -> None:
        line = json.dumps(answer).encode() + b"\n"
        while line:
            line = line[os.write(self._answers, line) :]

    def _become_stage(self, server: int, arguments: list[str], log: str) -> int:
        die_with_parent()
        if os.getppid() != server:
            return EXIT_ORPHANED
        gc.enable()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, self._interrupt)
        for descriptor in (self._requests, self._answers, self._wake, self._woken_by):
            os.close(descriptor)
        redirect(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 1, 2)
        sys.argv = [sys.argv[0], *arguments]
        return self._main(arguments)


def end_with(action: Callable[[], int]) -> NoReturn:
    """Run `action` and end this process with its exit code, as an interpreter does.

    The stack below and the exit handlers belong to the server: neither is run here, and a handler
    that removes a folder of an imported module would remove it for all stages.
    """
    code = 1
    try:
        code = action()
    except SystemExit as error:
        code = _exit_code(error)
    except BaseException:  # what nobody caught: the interpreter's own last step
        sys.excepthook(*sys.exc_info())
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _exit_code(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    print(error.code, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
