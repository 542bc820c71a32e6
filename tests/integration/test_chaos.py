"""A short chaos run: each kind of process killed once. `make chaos` kills twenty."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from tests.chaos import DRAWS, VICTIMS, Command, Trial, chaos, killed

pytestmark = pytest.mark.timeout(900)


def test_killed_runs_end_with_the_digests_of_an_undisturbed_one(tmp_path: Path) -> None:
    trials = chaos(len(VICTIMS), 20261125, tmp_path)
    assert [trial.victim for trial in trials] == list(VICTIMS)
    assert any(trial.committed for trial in trials)
    assert any(trial.resumed for trial in trials if trial.victim == "training")
    for trial in trials:
        assert trial.pid is not None, trial
        assert trial.held, trial


@dataclass(frozen=True)
class Bare(Command):
    """A flow without stages that ends by itself after so many seconds."""

    seconds: float = 0.0
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, home: Path) -> subprocess.Popen[bytes]:
        home.mkdir()
        command = [sys.executable, "-c", f"import time; time.sleep({self.seconds})"]
        self.started.append(subprocess.Popen(command))
        return self.started[-1]


@pytest.mark.parametrize("victim", ["stage", "training"])
def test_trial_in_which_nothing_is_killed_fails(victim: str, tmp_path: Path) -> None:
    flow = Bare(Path(), "")
    with pytest.raises(AssertionError, match=f"no {victim} was killed"):
        killed(flow, tmp_path / "home", Trial(victim), Random(0), 1.0, 1.0)
    assert len(flow.started) == DRAWS


def test_trial_notes_whom_it_killed_and_when(tmp_path: Path) -> None:
    flow, trial = Bare(Path(), "", 60.0), Trial("flow")
    killed(flow, tmp_path / "home", trial, Random(0), 0.5, 0.5)
    assert [(p.pid, p.returncode) for p in flow.started] == [(trial.pid, -9)]
    assert trial.seconds >= trial.share * 0.5
