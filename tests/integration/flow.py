"""Running the flow from the command line, in small."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Flow:
    """A home folder with a small profile, and what its last run printed."""

    home: Path
    output: str
    stages: dict[str, str]
    code: int


def small_profile(folder: Path) -> Path:
    """The embedded default with few steps, two methods, and `transformers` in place of vLLM."""
    profile = yaml.safe_load((ROOT / "conf" / "mini.yaml").read_text())
    profile["engine"] |= {"kind": "transformers"}
    del profile["engine"]["max_model_len"], profile["fusion_engine"]
    # Most of what a run imports is vLLM's, which no stage here uses.
    preload = profile["runtime"]["preload"]
    profile["runtime"]["preload"] = [name for name in preload if not name.startswith("vllm")]
    profile["distill"] |= {"epochs": 0.5, "log_every": 1}
    del profile["methods"]["sft_fused"], profile["methods"]["sdft"]
    (folder / "small.yaml").write_text(yaml.safe_dump(profile))
    return folder / "small.yaml"


def start_flow(home: Path, *arguments: str, domain: str | None = "law") -> subprocess.Popen[str]:
    """The flow as a process; what it prints comes through its pipe."""
    profile = small_profile(home)
    command = [sys.executable, "-m", "flows.cli", "run", "--profile", str(profile)]
    command += ["--domain", domain] if domain else []
    return subprocess.Popen(
        [*command, *arguments],
        cwd=ROOT,
        env=os.environ | {"RAFT_HOME": str(home / "home"), "COLUMNS": "160"},
        umask=0o022,  # a common one, by which others may read
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended_flow(home: Path, process: subprocess.Popen[str]) -> Flow:
    output, _ = process.communicate(timeout=800)
    stages = re.findall(r"^  (\w+(?: \S+)?) +(Cached|failed|[\d.]+ s)$", output, re.MULTILINE)
    return Flow(home / "home", output, dict(stages), process.returncode)


def run_flow(home: Path, *arguments: str, domain: str | None = "law") -> Flow:
    return ended_flow(home, start_flow(home, *arguments, domain=domain))
