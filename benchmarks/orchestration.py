"""Measure the orchestration's cost beside the stages: `python -m benchmarks.orchestration`.

A flow's overhead is its wall time less the time in which at least one stage's process lives, seen
from outside (`flow_timeline`). So the start of the flow, the modules that stages share, a gap
between two stages and the end after the last one all count as overhead, and what an idle core
beside a working one could do does not. Runs that are measured until their first stage's process are
then ended with Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.flow_timeline import Timeline, chart, watch
from benchmarks.measuring import CaseResult, Ratio, Spread, table

ROOT = Path(__file__).resolve().parents[1]
LONG_EPOCHS, SHORT_EPOCHS = 95, 1  # of the trainings: five minutes or more, and a report
MOST_SHARE, MOST_CACHED, MOST_IMPORT, MOST_START = 0.05, 30.0, 0.5, 30.0
IMPORT = "import raft_core.app.settings"
# Of the surroundings: they choose servers, stores and threads.
FOREIGN = ("RAFT_", "PREFECT_", "MLFLOW_", "OMP_", "MKL_", "OPENBLAS_", "VLLM_")


@dataclass(frozen=True)
class Runs:
    """The homes of one benchmark, and the flow in them."""

    folder: Path

    def flow(self, home: str, *settings: str, until_first_stage: bool = False) -> Timeline:
        """Run the embedded profile once.

        Raises:
            RuntimeError: it ended with an error.
        """
        place = self.folder / home
        place.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "flows.cli", "run", "--profile", "mini"]
        for setting in settings:
            command += ["--set", setting]
        log = place / "log.txt"
        env = surroundings() | {"RAFT_HOME": str(place / "home")}
        told = " ".join(settings) or "as it is"
        print(f"{home}: {told} ...", file=sys.stderr, flush=True)
        run = watch(command, env, log, self.folder, until_first_stage=until_first_stage)
        print(f"{home}: {run.wall:.1f} s\n{chart(run)}", file=sys.stderr, flush=True)
        if run.code != (130 if until_first_stage else 0):
            raise RuntimeError(f"code {run.code}:\n{log.read_text()[-2000:]}")
        return run


def surroundings() -> dict[str, str]:
    """Return the environment of a user who set nothing; the code is found from any folder."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
    return kept | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"}


def import_seconds(times: int) -> Spread:
    """Measure the wall time of new interpreters that import the settings."""

    def one(code: str) -> float:
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, env=surroundings())
        return time.perf_counter() - begun

    one(IMPORT)  # the files are read and compiled
    return Spread.of([one(IMPORT) for _ in range(times)])


def measure(runs: Runs, short: bool) -> tuple[list[Ratio], Timeline]:
    """Return all figures, and the long run."""
    imports = import_seconds(3 if short else 11)
    epochs = SHORT_EPOCHS if short else LONG_EPOCHS
    long = runs.flow("long", f"distill.epochs={epochs}")
    cached = runs.flow("long", f"distill.epochs={epochs}")
    fresh = [long.first_stage]
    used = []
    for number in range(1 if short else 3):
        # Another number of rows: the first stage has something to do.
        limited = runs.flow("long", f"domain.limit={500 - number}", until_first_stage=True)
        used.append(limited.first_stage)
        if not short:
            fresh.append(runs.flow(f"fresh{number}", until_first_stage=True).first_stage)
    seconds: list[tuple[str, Spread, float | None]] = [
        ("a run of which everything is cached, s", Spread.of([cached.wall]), MOST_CACHED),
        (f"`{IMPORT}` in a new interpreter, s", imports, MOST_IMPORT),
        ("start to first stage, new home, s", Spread.of(fresh), MOST_START),
        ("start to first stage, used home, s", Spread.of(used), MOST_START),
    ]
    share = Spread.of([long.overhead / long.wall])
    ratios = [
        Ratio(
            f"share of a run of {long.wall:.0f} s without a stage at work",
            share,
            None if short else f"<= {MOST_SHARE}",
        )
    ]
    ratios += [Ratio(n, s, None if goal is None else f"<= {goal:g}") for n, s, goal in seconds]
    return ratios, long


def section(ratios: list[Ratio], long: Timeline) -> str:
    """Return the document's section: figures, where the overhead lies, and a run's profile."""
    marks = {True: "yes", False: "no", None: ""}
    rows = [[r.name, r.spread.text(3), r.goal or "", marks[r.reached]] for r in ratios]
    before, between, after = long.gaps
    lines = [
        table(["orchestration", "median [lowest, highest]", "goal", "reached"], rows),
        "",
        "Overhead is wall time in which no stage's process lives: "
        f"{before:.1f} s before the first stage, {between:.1f} s between stages and {after:.1f} s "
        f"after the last one of the run of {long.wall:.0f} s. The flow and its servers took "
        f"{sum(each.cpu for each in long.others):.0f} s of processor time in it, the stages "
        f"{sum(each.cpu for each in long.stages):.0f} s.",
    ]
    lines += ["", "```", *(line.rstrip() for line in chart(long, 60).splitlines()), "```"]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.orchestration", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a shorter run, each figure once")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    begun = time.monotonic()
    with TemporaryDirectory() as folder:
        ratios, long = measure(Runs(Path(folder)), options.short)
    text = section(ratios, long)
    CaseResult("orchestration", tuple(ratios), text, time.monotonic() - begun).write(options.json)


if __name__ == "__main__":
    main()
