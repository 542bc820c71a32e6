"""Run stages one by one as the tasks do and measure them: no orchestrator, no store."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from raft_core.app.pipeline import STAGES
from raft_core.config.runtime import RuntimeConfig
from raft_core.execution.processes import StageProcesses
from raft_core.execution.stage import StageConfig
from raft_core.store.artifacts import ArtifactRef

POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Took:
    """Cost of one stage.

    `seconds` are those of its process, of which `start` are until its first event and `end` from
    its last file to the process's end; `timings` are those of its `timing` events.
    """

    out: Path
    seconds: float
    start: float
    end: float
    peak_mib: float
    timings: Mapping[str, float] = field(default_factory=dict)

    @property
    def load(self) -> float:
        return self.timings.get("load engine", 0.0) + self.timings.get("load encoder", 0.0)

    @property
    def work(self) -> float:
        """Seconds without the start and end of the process, and the loading of models."""
        return self.seconds - self.start - self.load - self.end


class StageRuns:
    """Runs stages below one folder; their keys are their names: nothing is looked up."""

    def __init__(self, folder: Path, runtime: RuntimeConfig, processes: StageProcesses) -> None:
        self._folder, self._runtime, self._processes = folder, runtime, processes

    def run(
        self, stage: str, config: StageConfig, inputs: Mapping[str, Path], name: str = ""
    ) -> Took:
        """Run a stage and return what it took.

        Raises:
            RuntimeError: it failed; with the end of its log.
        """
        work = self._folder / (name or stage)
        work.mkdir(parents=True)
        refs = {
            given: ArtifactRef(
                stage=given.split(".")[0], key=given.replace(".", "-"), path=str(path)
            )
            for given, path in inputs.items()
        }
        spec = STAGES[stage].spec(config, refs, self._runtime)
        (work / "spec.json").write_text(spec.model_dump_json())
        begun, clock = time.monotonic(), time.time()
        process = self._processes.start(spec, work, work / "log.txt")
        started, peak = 0.0, 0.0
        while process.poll() is None:
            peak = max(peak, peak_mib(getattr(process, "pid", None)))
            events = work / "events.jsonl"
            if not started and events.is_file() and events.stat().st_size:
                started = time.monotonic() - begun
            time.sleep(POLL_SECONDS)
        seconds = time.monotonic() - begun
        if process.wait() != 0:
            raise RuntimeError(f"{stage}: {(work / 'log.txt').read_text()[-2000:]}")
        written = (work / "out" / "counts.json").stat().st_mtime - clock
        told = timings(work / "events.jsonl")
        return Took(work / "out", seconds, started, seconds - written, peak, told)

    def run_shards(
        self, stage: str, configs: Sequence[StageConfig], inputs: Mapping[str, Path]
    ) -> list[Took]:
        """Run shards, so many at once as the runtime lets."""
        with ThreadPoolExecutor(self._runtime.parallel_stages) as slots:
            runs = [
                slots.submit(self.run, stage, config, inputs, f"{stage}.{place:05d}")
                for place, config in enumerate(configs)
            ]
            return [run.result() for run in runs]


def note(text: str) -> None:
    """Print what a benchmark says while it runs."""
    print(text, file=sys.stderr, flush=True)


def timings(events: Path) -> dict[str, float]:
    """Return the seconds of the last event of each kind of work."""
    found = {}
    for line in events.read_text().splitlines():
        event = json.loads(line)
        if event["kind"] == "timing":
            found[event["what"]] = event["seconds"]
    return found


def peak_mib(pid: int | None) -> float:
    """Return the highest resident memory of a process so far; 0 where it cannot be read."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    lines = [line for line in text.splitlines() if line.startswith("VmHWM")]
    return int(lines[0].split()[1]) / 1024 if lines else 0.0
