"""A short chaos run: each kind of process killed once. `make chaos` kills twenty."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import VICTIMS, chaos

pytestmark = pytest.mark.timeout(900)


def test_killed_runs_end_with_the_digests_of_an_undisturbed_one(tmp_path: Path) -> None:
    trials = chaos(len(VICTIMS), 20261125, tmp_path)
    assert [trial.victim for trial in trials] == list(VICTIMS)
    assert any(trial.committed for trial in trials)
    for trial in trials:
        assert trial.held, trial
