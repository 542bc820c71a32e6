"""Record what this commit computes and takes, and compare it with another: `make baseline`.

A redesign must not change results. `record` runs the embedded profile, a study cell of each student
and the bad-input tests, and keeps tables, digests, outcomes, times and memory as JSON; `compare`
lists every difference between two such files. Digests hold on one machine alone: record both sides
there.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from benchmarks.measuring import Spread, machine, table
from benchmarks.orchestration import ROOT, surroundings

RUN = (sys.executable, "-m", "flows.cli", "run", "--profile", "mini")
STUDY = (sys.executable, "-m", "flows.cli", "study")
PLAN = Path(__file__).with_name("baseline.yaml")
TEXTS = {".json", ".jsonl", ".md", ".html", ".txt", ".csv"}
# Keys of artifacts may change, and seconds always do.
VARYING = (
    (re.compile(r"[0-9a-f]{24,64}"), "KEY"),
    (re.compile(r'"(\w*seconds\w*|created)": *([-+.\deE]+|"[^"]*")'), r'"\1": "N"'),
    (re.compile(r"\d+\.\d+ s\b"), "N s"),
)
POLL_SECONDS, MEMORY_SECONDS = 0.05, 1.0  # reading the memory of all processes takes time
MOST = 1.3  # times the other commit's, of every time and of the peak


@dataclass(frozen=True)
class Watched:
    """One command: what it printed, and what it took until its first stage and in all."""

    printed: str
    seconds: float
    first_stage: float | None
    peak_mib: float


def main() -> int:
    """Return 0; 1 where two recordings differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.baseline", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    record_parser = actions.add_parser("record", help="run everything once (about ten minutes)")
    record_parser.add_argument("--out", type=Path, required=True)
    record_parser.add_argument("--ci-seconds", type=float, help="what CI took, measured elsewhere")
    compare_parser = actions.add_parser("compare", help="list what differs")
    compare_parser.add_argument("before", type=Path)
    compare_parser.add_argument("after", type=Path)
    options = parser.parse_args()
    if options.action == "record":
        record(options.out, options.ci_seconds)
        return 0
    lines = differences(*(json.loads(f.read_text()) for f in (options.before, options.after)))
    print("\n".join(lines) or "no difference")
    return 1 if any(not line.startswith("|") for line in lines) else 0


def record(out: Path, ci_seconds: float | None) -> None:
    """Write everything of this commit to one file, part by part; a part that is there is kept."""
    found: dict[str, Any] = json.loads(out.read_text()) if out.is_file() else {}
    if found and found["commit"] != commit():
        raise SystemExit(f"{out} is of commit {found['commit']}; name another file")
    found |= {"machine": machine(), "commit": commit()}
    figures = found.setdefault("figures", {})
    if ci_seconds:
        figures["CI, s"] = ci_seconds
    parts = {"run": record_run, "study": record_study, "bad_input": record_outcomes}
    for name, part in parts.items():
        if name not in found:
            with TemporaryDirectory() as folder:
                found |= part(Path(folder), figures)
            print(f"{name}: {json.dumps(figures)}", file=sys.stderr, flush=True)
            out.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def record_run(folder: Path, figures: dict[str, Any]) -> dict[str, Any]:
    """Return the table of the embedded profile and the digests of what its stages wrote."""
    home = folder / "home"
    run = watch(RUN, home, folder)
    found = {"run": lasting(run.printed, home), "digests": digests(home / "store" / "artifacts")}
    figures |= {
        "fresh run, s": run.seconds,
        "first stage in a new home, s": run.first_stage,
        "peak memory, MiB": run.peak_mib,
        "cached run, s": [watch(RUN, home, folder).seconds for _ in range(3)],
        "dry run, s": [watch((*RUN, "--dry-run"), home, folder).seconds for _ in range(3)],
    }
    return found


def record_study(folder: Path, figures: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a cell of each student."""
    command = (*STUDY, str(PLAN), "--out", str(folder / "out"))
    figures["study cells, s"] = watch(command, folder / "home", folder).seconds
    study = json.loads((folder / "out" / "study" / "study.json").read_text())
    return {"study": without_times(study)}


def record_outcomes(folder: Path, figures: dict[str, Any]) -> dict[str, Any]:
    """Return the outcome, the errors and the exit codes of every bad-input test."""
    command = [sys.executable, "-m", "pytest", "tests/bad_input", "-q", "-n", "2"]
    command += ["--dist", "loadfile", "-p", "benchmarks.outcomes"]
    env = surroundings() | {"OUTCOMES": str(folder), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, check=False)
    lines = [line for file in folder.iterdir() for line in file.read_text().splitlines()]
    return {"bad_input": dict(map(json.loads, lines))}


def without_times(value: Any) -> Any:
    """Return nested values without fields that hold seconds or dates."""
    if isinstance(value, Mapping):
        kept = {n: each for n, each in value.items() if "seconds" not in n and n != "created"}
        return {name: without_times(each) for name, each in kept.items()}
    return [without_times(each) for each in value] if isinstance(value, list) else value


def commit() -> str:
    """Return the commit of the working tree."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def watch(command: Sequence[str], home: Path, folder: Path) -> Watched:
    """Run a command to its end and sample the memory of all its processes.

    Raises:
        RuntimeError: it ended with an error.
    """
    env = surroundings() | {"RAFT_HOME": str(home)}
    log = folder / "log.txt"
    first, peak, looked, begun = None, 0.0, 0.0, time.monotonic()
    with open(log, "w") as errors, open(folder / "out.txt", "w+") as output:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=output, stderr=errors)
        while process.poll() is None:
            if first is None and any(home.glob("store/work/*/log.txt")):
                first = time.monotonic() - begun
            if time.monotonic() > looked + MEMORY_SECONDS:
                peak, looked = max(peak, memory_of(process.pid)), time.monotonic()
            time.sleep(POLL_SECONDS)
        seconds = time.monotonic() - begun
        output.seek(0)
        printed = output.read()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: code {process.returncode}:\n{log.read_text()}")
    return Watched(printed, round(seconds, 2), first and round(first, 2), round(peak, 1))


def memory_of(pid: int) -> float:
    """Return the MiB of a process and its descendants; shared pages count once."""
    total = 0
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(OSError):
                for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1])
    return total / 1024


def lasting(text: str, home: Path) -> str:
    """Return a text without what differs between two runs of one commit."""
    text = text.replace(str(home), "HOME")
    for pattern, substitute in VARYING:
        text = pattern.sub(substitute, text)
    return re.sub(r"(MLflow run +)\S+", r"\1ID", text)


def digests(artifacts: Path) -> dict[str, list[str]]:
    """Return `STAGE/FILE` -> the digests of this file in all artifacts of the stage, sorted."""
    found: dict[str, list[str]] = {}
    for file in sorted(artifacts.glob("*/*/**/*")):
        stage, _, *rest = file.relative_to(artifacts).parts
        if file.is_file() and rest != ["record.json"]:
            content = file.read_bytes()
            if file.suffix in TEXTS:
                content = lasting(content.decode(), artifacts.parents[1]).encode()
            digest = sha256(content).hexdigest()[:12]
            found.setdefault("/".join([stage, *rest]), []).append(digest)
    return {name: sorted(values) for name, values in found.items()}


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return a line per difference, and the table of times."""
    lines: list[str] = []
    if before["machine"] != after["machine"]:
        lines.append("recorded on two machines: digests and times tell nothing")
    for part in ("run", "digests", "study", "bad_input"):
        lines += [f"{part}: {line}" for line in changed(before[part], after[part])]
    rows = []
    for name in before["figures"].keys() & after["figures"].keys():
        old, new = (middle(each["figures"][name]) for each in (before, after))
        rows.append([name, f"{old:.1f}", f"{new:.1f}", f"{new / old:.2f}"])
        if new > MOST * old:
            lines.append(f"{name}: {new / old:.2f} times as much, the most is {MOST}")
    return [*lines, *table(["figure", "before", "after", "ratio"], sorted(rows)).splitlines()]


def middle(value: float | Sequence[float]) -> float:
    """Return a figure, or the median of several."""
    return value if isinstance(value, (int, float)) else Spread.of(value).median


def changed(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Yield a line for every leaf that is not equal."""
    if isinstance(before, str) and isinstance(after, str) and "\n" in before + after:
        before, after = before.splitlines(), after.splitlines()
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted({*before, *after}):
            if name not in before or name not in after:
                yield f"{path}{name}: only {'before' if name in before else 'after'}"
            else:
                yield from changed(before[name], after[name], f"{path}{name} ")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for place, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from changed(old, new, f"{path}{place} ")
    elif before != after:
        yield f"{path.strip()}: {json.dumps(before)[:300]} -> {json.dumps(after)[:300]}"


if __name__ == "__main__":
    sys.exit(main())
