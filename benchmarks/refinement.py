"""`python -m benchmarks.refinement`: the refinement's speed and memory.

Rewriting and fusing through the stages beside a bare `vllm.LLM.generate`, the encoder beside and
after the writing, and what prepare, rewrite, filter and fuse cost as the rows grow. `--part` runs
one of the three.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from benchmarks.measuring import CaseResult, Ratio, table
from benchmarks.mini_rows import write_rows
from benchmarks.refinement_pairs import Pairs, measured_pairs
from benchmarks.stage_runs import StageRuns, note
from raft_core.settings import Settings, load_settings
from raft_core.shards import Shard
from tasks.processes import StageProcesses

PAIRED_ROWS, SHORT_PAIRED_ROWS = 2_000, 300
PAIRS, SHORT_PAIRS = 3, 1


def settings_for(data: Path, *overrides: str) -> Settings:
    """The mini profile as it is, on a file of rows."""
    return load_settings("mini", overrides=overrides, data=str(data))


def stage_pairs(folder: Path, rows: int, pairs: int) -> list[Pairs]:
    """Both stages, each on all training rows as one shard."""
    settings = settings_for(write_rows(folder / "rows.jsonl", rows))
    home = folder / "home"
    os.environ["RAFT_HOME"] = str(home)
    with StageProcesses(settings.runtime) as processes:
        runs = StageRuns(folder, settings.runtime, processes)
        prepared = runs.run("prepare", settings.prepare_stage(), {}).out
        inputs = {"prepare": prepared}
        config = settings.rewrite_stage(Shard())
        rewritten = runs.run("rewrite", config, inputs).out
        filtered = runs.run(
            "filter", settings.filter_stage(), inputs | {"rewrite.00000": rewritten}
        ).out
    asked = (folder, home, pairs)
    return [
        measured_pairs("rewrite", config, inputs, settings, *asked),
        measured_pairs(
            "fuse", settings.fuse_stage(), inputs | {"filter": filtered}, settings, *asked
        ),
    ]


def pairs_section(found: list[Pairs]) -> tuple[str, list[Ratio]]:
    header = [
        "stage",
        "requests",
        "tokens/s, stage",
        "tokens/s, bare",
        "generation alone",
        "all but start and load",
        "whole process",
    ]
    rows = [
        [
            pairs.stage,
            f"{pairs.requests:,}",
            *(f"{max(s.tokens / s.generate for s in side):,.0f}" for side in pairs.sides()),
            pairs.generation().text(3),
            pairs.working().text(3),
            pairs.whole().text(3),
        ]
        for pairs in found
    ]
    ratios = [
        Ratio(f"{p.stage}: tokens/s of generating, stage / bare vLLM", p.generation(), ">= 0.95")
        for p in found
    ]
    return table(header, rows), ratios


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.refinement", description=__doc__)
    parser.add_argument("--short", action="store_true", help="fewer rows and pairs")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="raft-bench-") as scratch:
        folder = Path(scratch)
        (folder / "pairs").mkdir()
        found = stage_pairs(
            folder / "pairs",
            SHORT_PAIRED_ROWS if options.short else PAIRED_ROWS,
            SHORT_PAIRS if options.short else PAIRS,
        )
        text, ratios = pairs_section(found)
    note(f"{time.monotonic() - begun:.0f} s")
    CaseResult("refinement", tuple(ratios), text, time.monotonic() - begun).write(options.json)


if __name__ == "__main__":
    main()
