"""The locks agree with each other, and the servers need what theirs holds and no more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
HEAVY = ("torch", "transformers", "vllm", "faiss", "sentence_transformers", "datasets", "peft")


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / f"{name}.lock").read_text().splitlines()
    pairs = (line.split(";")[0].split("==") for line in lines if "==" in line and line[0] != "#")
    return {package.strip(): version.strip() for package, version in pairs}


def test_lock_of_the_servers_pins_what_the_workers_have() -> None:
    workers = pins("cpu") | pins("dev")
    servers = pins("servers")
    assert {name: workers.get(name) for name in servers} == servers
    gpu = pins("gpu")
    for name in ("prefect", "mlflow", "sqlalchemy", "pydantic", "s3fs"):
        assert gpu[name] == servers[name]


def test_deploying_needs_no_package_of_the_workers() -> None:
    modules = ["flows.raft", "flows.retrain", "flows.compare", "flows.stage"]
    loaded = f"sys.exit(', '.join(sys.modules.keys() & {set(HEAVY)}))"
    code = f"import sys, {', '.join(modules)}, tasks.stack.__main__; {loaded}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stderr.strip() == ""
