"""Run one section of `benchmarks.gpu` in a process of its own.

It imports what it needs, says so, waits for a line on standard input with the names of its cases,
and answers each with one line as soon as it is done. Until it is asked it does not touch the GPU:
so the next section can load its libraries while the one before it measures.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu_cases import FULL, TINY

READY, ANSWER = "READY", "RESULT "


def runner(section: str) -> Callable[..., Any]:
    """Return the function that runs a case, with all its libraries loaded."""
    if section == "objective":
        from benchmarks.gpu_objective import run_case as objective

        return lambda name, sizes, card, work: objective(name, sizes, card)
    if section == "checks":
        from benchmarks.gpu_checks import run_case as checks

        return checks
    if section == "decoding":
        from benchmarks.gpu_decoding import run_case as decoding

        return decoding
    from benchmarks.gpu_training import run_case as training

    return lambda *rest: training(section, *rest)


def serve(section: str, device: str, tiny: bool, work: Path) -> None:
    started = time.perf_counter()
    run_case = runner(section)
    from benchmarks.gpu_card import Card, tried

    print(f"{section}: libraries {time.perf_counter() - started:.1f} s", file=sys.stderr)
    card, sizes = Card(device), TINY if tiny else FULL
    print(READY, flush=True)
    for name in json.loads(sys.stdin.readline() or "[]"):
        begun = time.perf_counter()
        value, error = tried(card, lambda name=name: run_case(name, sizes, card, work))
        answer: dict[str, Any] = {"section": section, "case": name}
        answer |= {"error": error} if error else value
        answer |= {"took": time.perf_counter() - begun, "left_gib": card.allocated() / 2**30}
        print(ANSWER + json.dumps(answer), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("section")
    parser.add_argument("--device", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    serve(options.section, options.device, options.tiny, options.work)


if __name__ == "__main__":
    main()
