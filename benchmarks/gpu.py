"""Measure RAFT's objective and training step on a GPU: `python -m benchmarks.gpu`.

One call on a machine with one GPU measures the loss beside its dense forms, the training step by
its phases with its share of the card's matrix rate, and checks the arithmetic. It ends within
`--seconds`: each section is a process with a limit of its own, and what fails or does not fit costs
nothing else. Every result is written beside the JSON file (`-raw.json`) as soon as it is there;
`--from` makes the report of such files again, without a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.gpu_cases import FULL, NO_TIME, TINY, Section, sections
from benchmarks.gpu_report import report
from benchmarks.gpu_section import ANSWER, READY

MODELS_GIB = 14
SLOWER = 10  # a CPU, at the sizes that only test this script
TOLD_OF_A_CRASH = 600


class Process:
    """A section's process: it loads its libraries at once and measures when asked."""

    def __init__(self, section: Section, options: argparse.Namespace, work: Path) -> None:
        self._log = work / f"{section.name}.log"
        command = [sys.executable, "-m", "benchmarks.gpu_section", section.name]
        command += ["--device", options.device, "--work", str(work)]
        command += ["--tiny"] if options.tiny else []
        environment = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **os.environ}
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def answers(
        self, cases: Sequence[str], seconds: float, last: float
    ) -> Iterator[dict[str, Any]]:
        """Yield results as they come, until the process ends.

        Raises:
            TimeoutError: it took `seconds` since its libraries are there, or the time is `last`.
        """
        until, asked = last, False
        while (line := self._next(until)) is not None:
            if line.startswith(READY) and not asked:
                asked, until = True, min(last, time.monotonic() + seconds)
                self._ask(cases)
            elif line.startswith(ANSWER):
                yield json.loads(line.removeprefix(ANSWER))

    def _next(self, until: float) -> str | None:
        try:
            return self._lines.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise TimeoutError from None

    def _ask(self, cases: Sequence[str]) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # it may have died: its output ends then
            self._process.stdin.write(json.dumps(list(cases)) + "\n")
            self._process.stdin.close()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()

    def crash(self) -> str:
        """Describe how it ended, with the last of what it said."""
        code = self._process.wait()
        said = self._log.read_text(errors="replace")[-TOLD_OF_A_CRASH:]
        return f"the process ended with {code}: {' '.join(said.split())}"


class Run:
    """All sections, one after another."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self._options, self._work = options, work
        self._started = time.monotonic()
        known = sections(TINY if options.tiny else FULL)
        self._sections = [known[name] for name in options.sections or known]
        self.raw: dict[str, Any] = {"tiny": options.tiny, "seconds": 0.0, "results": []}

    def measure(self) -> None:
        waiting = {s.name: Process(s, self._options, self._work) for s in self._sections}
        try:
            if self._options.device == "cuda" and not has_gpu():
                sys.exit("benchmarks.gpu: torch finds no GPU; --device cpu --tiny tests the script")
            for section in self._sections:
                self._measure(section, waiting)
        finally:
            for process in waiting.values():
                process.end()

    def _measure(self, section: Section, waiting: dict[str, Process]) -> None:
        last = self._started + self._options.seconds
        limit = section.seconds * (SLOWER if self._options.tiny else 1)
        left = list(section.cases)
        while left:
            process = waiting.pop(section.name, None)
            process = process or Process(section, self._options, self._work)
            try:
                for answer in process.answers(left, limit, last):
                    left.remove(answer["case"])
                    self._keep(answer)
                if left:
                    self._keep(self._failed(section, left.pop(0), process.crash()))
            except TimeoutError:
                for case in left:
                    self._keep(self._failed(section, case, NO_TIME))
                left.clear()
            finally:
                process.end()

    def _failed(self, section: Section, case: str, error: str) -> dict[str, Any]:
        return {"section": section.name, "case": case, "error": error}

    def _keep(self, answer: dict[str, Any]) -> None:
        passed = time.monotonic() - self._started
        told = answer.get("error", f"{answer.get('took', 0):.1f} s")
        print(f"{passed:5.0f} s  {answer['section']}, {answer['case']}: {told}", file=sys.stderr)
        self.raw["results"].append(answer)
        self.raw["seconds"] = passed
        if self._options.json is not None:
            raw_file(self._options.json).write_text(json.dumps(self.raw, indent=1) + "\n")


def raw_file(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    return file.with_name(f"{file.stem}-raw.json")


def work_folder() -> Path:
    """Return where models are written: in memory if they fit there, which is fast to read."""
    memory = Path("/dev/shm")
    fits = memory.is_dir() and shutil.disk_usage(memory).free > MODELS_GIB * 2**30
    return Path(tempfile.mkdtemp(prefix="raft-gpu-", dir=memory if fits else None))


def has_gpu() -> bool:
    """Return whether there is a GPU, asked in another process: this one must leave it alone."""
    asked = "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 1)"
    return subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the result goes")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes that test this script on a CPU")
    parser.add_argument("--sections", nargs="+", choices=sections(FULL), help="default: all")
    parser.add_argument("--seconds", type=float, default=360.0, help="for all of it")
    parser.add_argument("--from", dest="given", type=Path, nargs="+", help="raw results to report")
    parser.add_argument("--short", action="store_true", help="the checks and the objective alone")
    options = parser.parse_args()
    if options.short and not options.sections:
        options.sections = ["checks", "objective"]
    if options.given:
        report([json.loads(file.read_text()) for file in options.given]).write(options.json)
        return
    work = work_folder()
    try:
        run = Run(options, work)
        run.measure()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    report([run.raw]).write(options.json)


if __name__ == "__main__":
    main()
