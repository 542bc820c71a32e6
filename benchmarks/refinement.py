"""Measure the refinement's speed and memory: `python -m benchmarks.refinement`.

Rewriting and fusing through the stages beside a bare `vllm.LLM.generate`, the encoder after or
beside the writing, and what prepare, rewrite, filter and fuse cost as the rows grow. `--part` runs
one of the three alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring import CaseResult, Ratio, Spread, paired, table
from benchmarks.refinement_growth import REWRITE_TO_FILTER, STAGES, Cost, Refinement, exponent
from benchmarks.refinement_pairs import Pairs, measured_pairs
from benchmarks.stage_runs import note
from raft_core.app.settings import load_settings
from raft_core.execution.shards import Shard
from raft_core.refine.fuse import FuseStage
from raft_core.refine.rewrite import RewriteStage

PARTS = ("pairs", "overlap", "growth")
# One round, one view and judges without a model, so that 20,000 rows end within minutes.
GROWTH = (
    "fuse.rounds=1",
    "fuse.judges=[{kind: coverage}, {kind: support}]",
    "filter.view=answer",
    "filter.answer_floor=0",
    "rewrite.rows_per_shard=4096",
)
PAIRED = ("fuse.rounds=2", "rewrite.rows_per_shard=4096")


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured; the pairs are of the largest number of rows up to `PAIRED_ROWS`."""

    growth_rows: tuple[int, ...]
    pairs: Mapping[str, int]
    overlaps: int


PAIRED_ROWS, OVERLAP_ROWS = 2_000, 400
FULL = Size((200, 2_000, 20_000), {"rewrite": 3, "fuse": 3}, 2)
SHORT = Size((200, 1_000), {"rewrite": 1}, 0)


def stage_pairs(base: Cost, data: Path, folder: Path, size: Size) -> list[Pairs]:
    """Measure each stage on one refinement's training rows, as one shard, with the judges."""
    settings = load_settings("mini", overrides=PAIRED, data=str(data))
    inputs = {"prepare": base.out("prepare")}
    configs: dict[str, RewriteStage | FuseStage] = {
        "rewrite": settings.rewrite_stage(Shard()),
        "fuse": settings.fuse_stage(),
    }
    found = []
    for stage, pairs in size.pairs.items():
        given = inputs | ({"filter": base.out("filter")} if stage == "fuse" else {})
        found.append(
            measured_pairs(
                stage, configs[stage], given, settings, folder, data.parent / "home", pairs
            )
        )
    return found


def pairs_section(found: Sequence[Pairs]) -> tuple[str, list[Ratio]]:
    header = (
        "stage, requests|tokens/s, stage|tokens/s, bare|ratio, generation alone"
        "|ratio, all but start and load|ratio, whole process|load in s, stage|load in s, bare"
    )
    rows = [
        [
            f"{pairs.stage}, {pairs.requests:,}",
            *(spread.text(0) for spread in pairs.speeds()),
            pairs.generation().text(3),
            pairs.working().text(3),
            pairs.whole().text(3),
            *(spread.text(1) for spread in pairs.loads()),
        ]
        for pairs in found
    ]
    text = (
        "Tokens per second of a stage's process beside one `LLM.generate` over the same prompts, "
        "seeds and engine settings in a process of its own, pair by pair; both wrote the same "
        "tokens. *Generation alone* includes tokenizing and the stage's cache, but not the grading "
        "of fused answers. Of fusing, vLLM alone gets the prompts of all rounds at "
        "once. Cells are medians with the lowest and the highest."
    )
    ratios = [
        Ratio(f"{p.stage}: tokens/s of generating, stage / bare vLLM", p.generation(), ">= 0.95")
        for p in found
    ]
    ratios += [Ratio(f"{p.stage}: tokens/s of the whole process", p.whole()) for p in found]
    return f"{text}\n\n{table(header.split('|'), rows)}", ratios


def overlap_section(folder: Path, rows: int, pairs: int) -> tuple[str, list[Ratio]]:
    """Measure from the first rewrite to the last verdict, with vectors made beside and after."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for number in range(pairs):
        for ahead in (True, False):
            run = Refinement(
                folder / f"{number}-{ahead}", rows, f"rewrite.rows_per_shard={rows // 4}"
            )
            cost = run.run(fuse=False, ahead=ahead)
            seconds[ahead].append(cost.seconds[REWRITE_TO_FILTER])
    ratio = paired(seconds[True], seconds[False])
    told = [f"{min(seconds[a]):.1f} to {max(seconds[a]):.1f} s" for a in (True, False)]
    text = (
        f"{rows:,} rows in four shards, from the first rewrite to the last verdict of the filter: "
        f"{told[0]} with `runtime.embed_ahead` (the stage `embed` makes the vectors of finished "
        f"shards while others are written), {told[1]} without; ratio {ratio.text()}."
    )
    return text, [Ratio("rewrite to filter: seconds, vectors ahead / after", ratio)]


def growth_section(costs: Sequence[Cost]) -> tuple[str, list[Ratio]]:
    counts = [cost.rows for cost in costs]
    header = ["stage", *(f"{n:,} rows" for n in counts), "exponent, work", "exponent, all"]
    lines = []
    for stage in STAGES:
        work, all_of_it = [c.work(stage) for c in costs], [c.seconds[stage] for c in costs]
        cells = [f"{w:.1f} ({s:.1f})" for w, s in zip(work, all_of_it, strict=True)]
        fitted = [f"{exponent(counts, seconds):.2f}" for seconds in (work, all_of_it)]
        lines.append([stage, *cells, *fitted])
    work = [sum(c.work(stage) for stage in STAGES) for c in costs]
    all_of_it = [sum(c.seconds[stage] for stage in STAGES) for c in costs]
    cells = [f"{w:.1f} ({s:.1f})" for w, s in zip(work, all_of_it, strict=True)]
    fitted = [f"{exponent(counts, seconds):.2f}" for seconds in (work, all_of_it)]
    lines.append(["**all**", *cells, *fitted])
    memory = [[stage, *(f"{c.peak_mib(stage):,.0f}" for c in costs)] for stage in STAGES]
    peak = table(["peak memory in MiB", *(f"{n:,} rows" for n in counts)], memory)
    text = (
        "Seconds of work, without start, loading and end of the processes, all shards together "
        "(in brackets: by the clock, two shards at a time), and the exponent of a line through "
        "the logarithms. The mini profile with one round of fusion, rules as judges and one view "
        "in the filter. "
        "Memory is the highest resident size of one of the stage's processes."
    )
    grown = exponent(counts, work)
    ratios = [Ratio("refinement: exponent of the work's seconds", Spread(grown, grown, grown, 1))]
    return f"{text}\n\n{table(header, lines)}\n\n{peak}", ratios


def sections(size: Size, parts: Sequence[str], folder: Path) -> tuple[list[str], list[Ratio]]:
    wanted = [n for n in size.growth_rows if "growth" in parts or n <= PAIRED_ROWS]
    if parts == ("overlap",):
        wanted = []
    costs = [Refinement(folder / f"{n}", n, *GROWTH).run() for n in wanted]
    found = []
    if "pairs" in parts:
        base = [cost for cost in costs if cost.rows <= PAIRED_ROWS][-1]
        data = folder / f"{base.rows}" / "rows.jsonl"
        found.append(pairs_section(stage_pairs(base, data, folder / "pairs", size)))
    if "overlap" in parts and size.overlaps:
        found.append(overlap_section(folder / "overlap", OVERLAP_ROWS, size.overlaps))
    if "growth" in parts:
        found.append(growth_section(costs))
    return [text for text, _ in found], [ratio for _, ratios in found for ratio in ratios]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.refinement", description=__doc__)
    parser.add_argument("--short", action="store_true", help="fewer rows and pairs, no overlap")
    parser.add_argument("--part", choices=PARTS, help="this part alone")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    begun = time.monotonic()
    parts = (options.part,) if options.part else PARTS
    with tempfile.TemporaryDirectory(prefix="raft-bench-") as scratch:
        texts, ratios = sections(SHORT if options.short else FULL, parts, Path(scratch))
    seconds = time.monotonic() - begun
    note(f"{seconds:.0f} s")
    CaseResult("refinement", tuple(ratios), "\n\n".join(texts), seconds).write(options.json)


if __name__ == "__main__":
    main()
