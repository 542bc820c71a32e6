"""Compare ways to draw rollouts with `transformers.generate`: `python -m benchmarks.rollouts`.

Every way draws from the same prompts with one thread, unless it says two, in turns with all others;
each model has a process of its own. `--short` leaves out vLLM and the largest model.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring import CaseResult, Ratio, Spread, paired, table
from benchmarks.rollout_ways import BASELINE, BATCH, RolloutSpec
from benchmarks.training_models import model_folder
from benchmarks.trl_environment import bench_folder
from raft_core.config.runtime import KEEP_MEMORY

ROOT = Path(__file__).resolve().parent.parent
SUMMARISED = ("and weights by columns", "and 3 steps ahead")


@dataclass(frozen=True, slots=True)
class Setting:
    """One column of the table."""

    model: str
    new_tokens: int
    rounds: int
    vllm: bool = True

    @property
    def name(self) -> str:
        most = "up to " if self.model == "mini" else ""
        return f"{self.model}, {most}{self.new_tokens} tokens"


FULL = (Setting("mini", 48, 9), Setting("5M", 24, 5), Setting("5M", 64, 3), Setting("50M", 24, 2))
SHORT = (Setting("mini", 48, 5, vllm=False), Setting("5M", 24, 3, vllm=False))


def measure(setting: Setting) -> dict[str, list[float]]:
    """Return tokens per second of each way, measured in a process of its own."""
    model = str(model_folder(setting.model, bench_folder()))
    spec = RolloutSpec(
        model, setting.new_tokens, setting.model == "mini", setting.rounds, setting.vllm
    )
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.rollout_ways", spec.to_argument()],
        cwd=ROOT,
        env=os.environ | KEEP_MEMORY | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def markdown(settings: list[str], found: list[dict[str, list[float]]]) -> str:
    ways = [way for way in found[0] if way != BASELINE]
    lines = [
        [BASELINE, *(f"{Spread.of(rates[BASELINE]).median:,.0f} tokens/s" for rates in found)],
        *([way, *(paired(rates[way], rates[BASELINE]).text() for rates in found)] for way in ways),
    ]
    return (
        f"Rollouts of {BATCH} questions of the embedded world at temperature 1 in float32, one "
        f"thread; tokens per second as a ratio to {BASELINE} with a generator per row, run by run "
        "in turns. The mini model stops by itself; the others have random weights and draw every "
        "token. RAFT's loop draws the same tokens for the same seeds. `n steps ahead` "
        "(`distill.rollout_ahead`) draws n + 1 steps' rollouts in one batch. bfloat16 counts the "
        "copy of the weights, vLLM the handing over of them, as every training step needs both.\n\n"
        + table(["", *settings], lines)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--short", action="store_true", help="a report of about a minute")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    started, settings = time.monotonic(), SHORT if options.short else FULL
    found = [measure(setting) for setting in settings]
    ratios = [
        Ratio(f"rollouts, {s.name}: {way} / generate", paired(rates[way], rates[BASELINE]))
        for s, rates in zip(settings, found, strict=True)
        for way in SUMMARISED
    ]
    text = markdown([s.name for s in settings], found)
    CaseResult("rollouts", tuple(ratios), text, time.monotonic() - started).write(options.json)


if __name__ == "__main__":
    main()
