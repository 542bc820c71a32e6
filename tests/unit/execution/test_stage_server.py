"""The protocol of the stage server, with stages of a few lines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
LIGHT = ROOT / "tests" / "unit" / "execution" / "light_server.py"


@contextmanager
def server(*arguments: str, path: str = "") -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(LIGHT), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{path}"},
        text=True,
    )
    with process:
        yield process
        process.stdin.close()


def send(process: subprocess.Popen[str], **request: Any) -> None:
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    return json.loads(process.stdout.readline())


def ended(pid: int) -> bool:
    """An orphan may stay a zombie where the first process of the machine does not wait for it."""
    stat = Path(f"/proc/{pid}/stat")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def ran(log: Path, what: str, *arguments: str) -> tuple[int, str]:
    """The return code of one stage and its log."""
    with server(*arguments) as process:
        send(process, id=5, run=[what], log=str(log))
        assert answer(process) == {"event": "ready"}
        started = answer(process)
        assert (started["event"], started["id"]) == ("started", 5)
        last = answer(process)
    assert process.returncode == 0
    assert (last["event"], last["id"]) == ("ended", 5)
    return last["returncode"], log.read_text()


@pytest.mark.parametrize(
    ("what", "code", "told"),
    [
        ("0", 0, ""),
        ("2", 2, ""),
        ("raise", 1, "ValueError: nobody catches this"),
        ("exit", 1, "a message"),
        ("segfault", -signal.SIGSEGV, ""),
    ],
)
def test_stage_end_is_told_as_by_subprocess(
    tmp_path: Path, what: str, code: int, told: str
) -> None:
    returncode, log = ran(tmp_path / "log.txt", what)
    assert returncode == code
    assert told in log
    assert ("Traceback" in log) == (what == "raise")


def test_stage_output_is_appended_to_its_log_and_stdin_is_empty(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("earlier\n")
    text = ran(log, "print")[1]
    assert text.startswith("earlier\n")
    assert sorted(text.splitlines()[1:]) == ["to stderr, stdin is ''", "to stdout"]


def test_stage_finds_the_modules_imported(tmp_path: Path) -> None:
    assert "wave" not in ran(tmp_path / "without.txt", "modules")[1].split()
    assert "wave" in ran(tmp_path / "with.txt", "modules", "--import", "wave")[1].split()


def test_stage_holds_no_pipe_of_the_server(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert "pipe:" not in ran(log, "descriptors")[1]


def test_killed_stage_ends_with_its_signal_and_a_second_kill_is_ignored(tmp_path: Path) -> None:
    with server() as process:
        send(process, id=1, run=["sleep"], log=str(tmp_path / "log.txt"))
        assert [answer(process)["event"] for _ in range(2)] == ["ready", "started"]
        send(process, id=1, kill=True)
        assert answer(process) == {"event": "ended", "id": 1, "returncode": -signal.SIGKILL}
        send(process, id=1, kill=True)
        send(process, id=2, run=["0"], log=str(tmp_path / "log.txt"))
        assert answer(process)["event"] == "started"
        assert answer(process) == {"event": "ended", "id": 2, "returncode": 0}


def test_stage_that_names_what_it_needs_starts_before_the_other_modules_are_loaded(
    tmp_path: Path,
) -> None:
    (tmp_path / "slow.py").write_text(
        f"import pathlib, time\nwhile not pathlib.Path({str(tmp_path / 'go')!r}).exists():\n"
        "    time.sleep(0.01)\n"
    )
    modules = ("--import", "wave", "--import", "slow")
    with server(*modules, path=str(tmp_path)) as process:
        send(process, id=1, run=["0"], log=str(tmp_path / "all.txt"))
        send(process, id=2, run=["modules"], log=str(tmp_path / "few.txt"), needs=["wave"])
        send(process, id=3, run=["0"], log=str(tmp_path / "killed.txt"))
        send(process, id=3, kill=True)
        first = [answer(process) for _ in range(1)]
        (tmp_path / "go").touch()
        events = first + [answer(process) for _ in range(5)]
    assert (events[0]["event"], events[0]["id"]) in {("started", 2), ("ended", 3)}
    order = [(event["event"], event.get("id")) for event in events]
    assert order.index(("started", 2)) < order.index(("ready", None))
    assert order.index(("ready", None)) < order.index(("started", 1))
    assert {"event": "ended", "id": 3, "returncode": -signal.SIGKILL} in events
    assert "wave" in (tmp_path / "few.txt").read_text().split()
    assert not (tmp_path / "killed.txt").exists()


def test_many_stages_at_once_each_end_with_their_own_code(tmp_path: Path) -> None:
    codes: dict[int, int] = {}
    with server() as process:
        for number in range(40):
            send(process, id=number, run=[str(number)], log=str(tmp_path / f"{number}.txt"))
        while len(codes) < 40:
            event = answer(process)
            if event["event"] == "ended":
                codes[event["id"]] = event["returncode"]
    assert codes == {number: number for number in range(40)}


@pytest.mark.parametrize("how", ["its input ends", "it is killed"])
def test_server_that_ends_takes_its_stages_along(tmp_path: Path, how: str) -> None:
    with server() as process:
        for number in range(3):
            send(process, id=number, run=["sleep"], log=str(tmp_path / "log.txt"))
        events = [answer(process) for _ in range(4)]
        if how == "it is killed":
            process.kill()
    assert process.returncode == (-signal.SIGKILL if how == "it is killed" else 0)
    assert all(ended(event["pid"]) for event in events[1:])


def test_noisy_imports_leave_the_protocol_alone(tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text(
        "import os, sys\nprint('hello')\nos.write(1, b'{}\\n')\nprint(sys.stdin.read())\n"
    )
    with server("--import", "noisy", path=str(tmp_path)) as process:
        assert answer(process) == {"event": "ready"}


@pytest.mark.parametrize(
    ("module", "code", "told"),
    [
        ("import threading, time\nthreading.Thread(target=time.sleep, args=[1]).start()", 2,
         "error: 'preloaded' starts threads: it cannot be preloaded"),
        ("import no_such_module", 1, "ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)  # fmt: skip
def test_module_that_cannot_be_preloaded_ends_the_server(
    tmp_path: Path, module: str, code: int, told: str
) -> None:
    (tmp_path / "preloaded.py").write_text(module)
    with server("--import", "preloaded", path=str(tmp_path)) as process:
        assert process.stdout.read() == ""
        assert process.stderr.read().splitlines()[-1] == told
    assert process.returncode == code


def test_threads_are_limited_before_the_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    (tmp_path / "looks.py").write_text(
        "import os, sys\n"
        "assert 'numpy' not in sys.modules\n"
        "assert os.environ['OMP_NUM_THREADS'] == '3'\n"
        "assert os.environ['TOKENIZERS_PARALLELISM'] == 'false'\n"
    )
    with server("--threads", "3", "--import", "looks", path=str(tmp_path)) as process:
        assert answer(process) == {"event": "ready"}
