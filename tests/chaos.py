"""Kill a run at random moments and see that nothing is lost: `python -m tests.chaos --trials 20`.

Each trial starts the pipeline in an empty store, kills one process of it with SIGKILL (the flow, a
stage, or the training) at a moment that the seed chooses, and calls the same command again. The
kill must have ended the first call: where there was nothing to kill at that moment, another one is
drawn. The second call must finish; what was committed before the kill must not have been made
again; every file of every artifact must be that of an undisturbed run; and every other killed
training, from the first on, has a checkpoint and must go on from it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psutil

from raft_core.distill.checkpoints import STATE_FILE
from tests.integration.flow import ROOT, small_profile
from tests.integration.stack import free_port

VICTIMS = ("flow", "stage", "training")
SETTINGS = (
    "domain.limit=150", "rewrite.rows_per_shard=40", "runtime.training.save_every=2",
    "distill.epochs=1.5", "runtime.parallel_stages=2",
)  # fmt: skip
POLL_SECONDS = 0.02
RUN_SECONDS = 300
DRAWS = 6


@dataclass(frozen=True)
class Command:
    """The pipeline in a home of its own, on a Prefect server that outlives it."""

    profile: Path
    server: str

    def start(self, home: Path) -> subprocess.Popen[bytes]:
        overrides = [part for each in SETTINGS for part in ("--set", each)]
        command = [sys.executable, "-m", "flows.cli", "run", "--domain", "law"]
        home.mkdir(parents=True, exist_ok=True)
        with open(home / "log.txt", "ab") as log:
            return subprocess.Popen(
                [*command, "--profile", str(self.profile), *overrides],
                cwd=ROOT,
                env=os.environ | {"RAFT_HOME": str(home), "PREFECT_API_URL": self.server},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def finish(self, home: Path) -> None:
        code = self.start(home).wait(RUN_SECONDS)
        assert code == 0, (home / "log.txt").read_text(errors="replace")[-4000:]


@dataclass
class Trial:
    """One kill and what came of it. `sealed`: only a training that has a checkpoint is killed."""

    victim: str
    sealed: bool = False
    share: float = 0.0
    pid: int | None = None
    seconds: float = 0.0
    resumed: bool = False
    stages: list[str] = field(default_factory=list)
    committed: int = 0
    again: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    @property
    def held(self) -> bool:
        return not self.again and not self.other and self.resumed >= self.sealed

    def __str__(self) -> str:
        found = "equal digests" if not self.other else f"OTHER DIGESTS: {self.other}"
        again = "" if not self.again else f", MADE AGAIN: {self.again}"
        running = ", ".join(self.stages) or "no stage"
        resumed = ", went on from a checkpoint" if self.resumed else ""
        lost = ", CHECKPOINT NOT USED" if self.sealed and not self.resumed else ""
        return (
            f"{self.victim} {self.pid} killed after {self.seconds:.1f} s ({running}), "
            f"{self.committed} artifacts kept{resumed}: {found}{again}{lost}"
        )


def records(home: Path) -> dict[str, str]:
    """stage/key -> record.json of every committed artifact; it tells when it was made."""
    files = (home / "store" / "artifacts").glob("*/*/record.json")
    return {f"{path.parent.parent.name}/{path.parent.name}": path.read_text() for path in files}


def digests(home: Path) -> dict[str, Mapping[str, str]]:
    return {name: json.loads(text)["files"] for name, text in records(home).items()}


def stages_at_work(flow: psutil.Process) -> dict[str, psutil.Process]:
    """Stage and key -> its process, known by the log that it writes to."""
    found = {}
    for process in flow.children(recursive=True):
        with suppress(psutil.Error, OSError):
            log = Path(os.readlink(f"/proc/{process.pid}/fd/1"))
            if log.parent.parent.name == "work":
                found[log.parent.name] = process
    return found


def has_checkpoint(home: Path, name: str) -> bool:
    folder = home / "store" / "work" / name / "out.scratch" / "checkpoints"
    return any(folder.glob(f"checkpoint-*/{STATE_FILE}"))


def strike(command: Command, home: Path, trial: Trial, seconds: float, training: float) -> bool:
    """Start the pipeline and kill the trial's victim at its moment; returns when the flow ended.

    Returns:
        Whether a living process was killed and the flow ended of it.
    """
    running = command.start(home)
    flow, started = psutil.Process(running.pid), time.monotonic()
    since: float | None = None
    while running.poll() is None:
        found = stages_at_work(flow)
        trainings = {name: p for name, p in found.items() if name.startswith("distill-")}
        if trainings and since is None:
            since = time.monotonic()
        if trial.sealed:
            trainings = {n: p for n, p in trainings.items() if has_checkpoint(home, n)}
        victims = {"flow": {"flow": flow}, "stage": found, "training": trainings}[trial.victim]
        begun, span = (since, training) if trial.victim == "training" else (started, seconds)
        if victims and begun is not None and time.monotonic() - begun >= trial.share * span:
            trial.stages = sorted(name.rsplit("-", 1)[0] for name in found)
            kill(victims[min(victims)], trial)
            trial.seconds = time.monotonic() - started
            break
        time.sleep(POLL_SECONDS)
    code = running.wait(RUN_SECONDS)
    return trial.pid is not None and (
        code == -signal.SIGKILL if trial.victim == "flow" else code > 0
    )


def kill(victim: psutil.Process, trial: Trial) -> None:
    """Note its id, unless it has ended by itself: what a signal does not tell."""
    with suppress(psutil.NoSuchProcess):
        if victim.status() != psutil.STATUS_ZOMBIE:
            victim.kill()
            trial.pid = victim.pid


def killed(
    command: Command, home: Path, trial: Trial, random: Random, seconds: float, training: float
) -> None:
    """Draw moments until one of them ends the flow.

    Raises:
        AssertionError: none does.
    """
    for _ in range(DRAWS):
        trial.share, trial.pid = random.random(), None
        if strike(command, home, trial, seconds, training):
            return
        shutil.rmtree(home)
    raise AssertionError(f"in {DRAWS} runs no {trial.victim} was killed: is any found?")


def go_on(
    command: Command, home: Path, trial: Trial, undisturbed: Mapping[str, Mapping[str, str]]
) -> None:
    """What comes of the kill: the same command once more."""
    before = records(home)
    trial.committed = len(before)
    command.finish(home)
    after = records(home)
    trial.resumed = "resuming from checkpoint-" in (home / "log.txt").read_text(errors="replace")
    trial.again = [name for name, text in before.items() if after.get(name) != text]
    made = digests(home)
    trial.other = sorted(
        name for name in made.keys() | undisturbed.keys() if made.get(name) != undisturbed.get(name)
    )


@contextmanager
def prefect_server(folder: Path) -> Iterator[str]:
    """A server for all trials: starting one for each run takes longer than the run."""
    port = free_port()
    environment = os.environ | {
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"]
    folder.mkdir(parents=True)
    with open(folder / "log.txt", "wb") as log:
        server = subprocess.Popen(
            [*command, "--port", str(port)], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield f"http://127.0.0.1:{port}/api"
    finally:
        server.terminate()
        server.wait(30)


def chaos(trials: int, seed: int, folder: Path) -> list[Trial]:
    """All trials, each printed as it ends. Victims take turns; the moments come from the seed."""
    random, done = Random(seed), []
    with prefect_server(folder / "prefect") as server:
        command = Command(small_profile(folder), server)
        wait_for(server)
        started = time.monotonic()
        command.finish(folder / "undisturbed")
        seconds, expected = time.monotonic() - started, digests(folder / "undisturbed")
        training = max(
            json.loads(text)["seconds"]
            for name, text in records(folder / "undisturbed").items()
            if name.startswith("distill/")
        )
        print(f"undisturbed: {len(expected)} artifacts in {seconds:.0f} s", flush=True)
        for number in range(trials):
            victim, turn = VICTIMS[number % len(VICTIMS)], number // len(VICTIMS)
            trial = Trial(victim, sealed=victim == "training" and turn % 2 == 0)
            home = folder / f"trial-{number}"
            killed(command, home, trial, random, seconds, training)
            go_on(command, home, trial, expected)
            done.append(trial)
            print(f"{number + 1:>2}  {trial}", flush=True)
            if trial.held:
                shutil.rmtree(home)
    return done


def wait_for(server: str) -> None:
    from urllib.error import URLError
    from urllib.request import urlopen

    for _ in range(240):
        try:
            with urlopen(f"{server}/health", timeout=5):
                return
        except (URLError, ConnectionError):
            time.sleep(0.5)
    raise TimeoutError(server)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    folder, started = Path(tempfile.mkdtemp(prefix="raft-chaos-")), time.monotonic()
    done = chaos(options.trials, options.seed, folder)
    held = sum(trial.held for trial in done)
    print(
        f"{held} of {len(done)} with equal digests, in {(time.monotonic() - started) / 60:.0f} min"
    )
    if held == len(done):
        shutil.rmtree(folder)
        return 0
    print(f"what differs is kept in {folder}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
