"""Run all measurements: `python -m benchmarks`, which writes docs/benchmarks.md.

Each case is a process of its own, one after the other, and leaves its figures in a folder; a case
that fails is reported and costs the others nothing. `--short` is a report of a few minutes that
writes no document.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.document import read_results, summary, update

ROOT = Path(__file__).resolve().parent.parent
# The cheap ones first: a report may be cut off.
CASES = ("objective", "rollouts", "refinement", "orchestration", "training_step", "gpu")
GPU_RESULTS = ROOT / "docs" / "gpu-h100.json"  # told where there is no CUDA device


def run_case(case: str, short: bool, folder: Path) -> bool:
    """Run one case, show what it prints, and return whether it ended well."""
    print(f"== {case}", flush=True)
    command = [sys.executable, "-m", f"benchmarks.{case}", "--json", str(folder / f"{case}.json")]
    command += ["--short"] if short else []
    command += ["--from", str(GPU_RESULTS)] if case == "gpu" and not has_gpu() else []
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT)
    state = "" if done.returncode == 0 else f" and failed with exit code {done.returncode}"
    print(f"== {case} took {time.monotonic() - started:,.0f} s{state}", flush=True)
    return done.returncode == 0


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", choices=CASES, help="may be given several times")
    parser.add_argument("--short", action="store_true", help="few minutes; no document is written")
    parser.add_argument("--results", type=Path, help="default: .raft/bench/results")
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "benchmarks.md")
    options = parser.parse_args()
    folder = options.results or ROOT / ".raft" / "bench" / ("short" if options.short else "results")
    cases = options.only or [case for case in CASES if case != "gpu" or not options.short]
    ended = [run_case(case, options.short, folder) for case in cases]
    results = read_results(folder, CASES)
    print(summary(results))
    if not options.short:
        update(options.document, results)
        print(f"written: {options.document}")
    return 0 if all(ended) else 1


if __name__ == "__main__":
    sys.exit(main())
