"""Stages started through the server and without it look the same to the flow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raft_core.config.runtime import RuntimeConfig
from raft_core.errors import StageError
from raft_core.execution.execute import failure
from raft_core.execution.processes import ForkedStage, StageProcess, StageProcesses
from raft_core.store.artifacts import StageSpec

ROOT = Path(__file__).resolve().parents[3]
LIGHT = ROOT / "tests" / "unit" / "execution" / "light_server.py"
FORKING = RuntimeConfig(device="cpu", preload=("json", "math"))


@pytest.fixture
def processes() -> Iterator[StageProcesses]:
    with StageProcesses(FORKING, server=[sys.executable, str(LIGHT)]) as started:
        yield started


def start(processes: StageProcesses, what: str, folder: Path) -> StageProcess:
    spec = StageSpec(stage=what, version=1, config={}, identity={})
    return processes.start(spec, folder, folder / "log.txt")


def pid_of(stage: StageProcess) -> int:
    assert isinstance(stage, ForkedStage)
    deadline = time.monotonic() + 20
    while stage.pid is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert stage.pid is not None
    return stage.pid


def server_of(stage: StageProcess) -> int:
    """The parent of the stage's process."""
    return int(Path(f"/proc/{pid_of(stage)}/stat").read_text().rpartition(")")[2].split()[1])


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("runtime", [FORKING, RuntimeConfig(device="cpu")])
def test_stage_without_its_spec_same_code_and_log_with_and_without_server(
    tmp_path: Path, runtime: RuntimeConfig
) -> None:
    with StageProcesses(runtime) as processes:
        stage = start(processes, "prepare", tmp_path)
        assert isinstance(stage, ForkedStage if runtime.preload else subprocess.Popen)
        assert stage.wait() == 2
    missing = tmp_path / "spec.json"
    assert (tmp_path / "log.txt").read_text() == (
        f"error: spec '{missing}': No such file or directory\n"
    )


@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_device_that_may_be_a_gpu_never_forks(device: str) -> None:
    assert not RuntimeConfig(device=device, preload=("json",)).forks_stages


def test_running_stage_has_no_code_until_it_is_killed(
    processes: StageProcesses, tmp_path: Path
) -> None:
    stage = start(processes, "sleep", tmp_path)
    pid = pid_of(stage)
    assert stage.poll() is None
    stage.kill()
    assert stage.wait() == stage.poll() == -signal.SIGKILL
    assert not Path(f"/proc/{pid}").exists()
    stage.kill()


def test_stages_of_many_threads_share_one_server(processes: StageProcesses, tmp_path: Path) -> None:
    codes: dict[int, int] = {}
    servers: set[int] = set()

    def run(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        waits = start(processes, "sleep", folder)
        servers.add(server_of(waits))
        codes[number] = start(processes, str(number), folder).wait()
        waits.kill()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == {number: number for number in range(16)}
    assert len(servers) == 1


def test_server_outlives_the_thread_that_needed_it_first(
    processes: StageProcesses, tmp_path: Path
) -> None:
    stages: list[StageProcess] = []
    first = threading.Thread(target=lambda: stages.append(start(processes, "sleep", tmp_path)))
    first.start()
    first.join()
    pid_of(stages[0])
    time.sleep(0.3)
    assert stages[0].poll() is None


def test_dead_server_fails_its_stages_and_the_next_one_gets_a_new_server(
    processes: StageProcesses, tmp_path: Path
) -> None:
    stages = [start(processes, "sleep", tmp_path) for _ in range(3)]
    dead = server_of(stages[0])
    os.kill(dead, signal.SIGKILL)
    assert [stage.wait() for stage in stages] == [1, 1, 1]
    error = failure("fuse", 1, tmp_path / "log.txt")
    assert isinstance(error, StageError)
    assert str(error).startswith(
        "stage 'fuse': the process that forks the stages (runtime.preload) ended with code -9"
    )
    again = start(processes, "sleep", tmp_path)
    assert server_of(again) != dead


def test_module_that_is_not_there_fails_the_stage_with_its_name(tmp_path: Path) -> None:
    runtime = FORKING.model_copy(update={"preload": ("no_such_module",)})
    with StageProcesses(runtime) as processes:
        assert start(processes, "prepare", tmp_path).wait() == 1
    assert "No module named 'no_such_module'" in (tmp_path / "log.txt").read_text()


def test_end_of_the_flow_kills_stages_and_starts_no_more(tmp_path: Path) -> None:
    with StageProcesses(FORKING, server=[sys.executable, str(LIGHT)]) as processes:
        stage = start(processes, "sleep", tmp_path)
        pid = pid_of(stage)
    assert stage.poll() is not None
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(StageError, match="the flow has ended"):
        start(processes, "sleep", tmp_path)


def test_flow_that_is_killed_leaves_neither_server_nor_stage(tmp_path: Path) -> None:
    flow = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tests.unit.execution import test_processes as t\n"
        "processes = t.StageProcesses(t.FORKING, server=[sys.executable, str(t.LIGHT)])\n"
        "stage = t.start(processes, 'sleep', Path(sys.argv[1]))\n"
        "print(t.pid_of(stage), t.server_of(stage), flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", flow, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        pids = [int(pid) for pid in process.stdout.readline().split()]
        process.kill()
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(pids) == 2
    assert not any(alive(pid) for pid in pids)
