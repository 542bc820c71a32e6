"""The sides of the comparison of training steps: RAFT's KL alone, and taking turns."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.raft_step import build
from benchmarks.training_models import MINI, write_rows
from benchmarks.training_sides import Side, started
from benchmarks.training_spec import StepSpec
from benchmarks.training_turns import Phases
from raft_core.errors import StageError
from tests.integration.flow import ROOT


def spec(folder: Path, variant: str) -> StepSpec:
    write_rows(folder / "rows.jsonl", 8, answers=1)
    return StepSpec(
        variant=variant,
        model=str(MINI),
        rows=str(folder / "rows.jsonl"),
        new_tokens=12,
        threads=1,
        steps=3,
        folder=str(folder / variant),
        trl_teacher_prompt="",
        batch_size=4,
        log_every=1,
    )


def test_kl_alone_distils_the_same_rollouts_and_learns_no_answer(tmp_path: Path) -> None:
    logged = {}
    for variant in ("kl", "full"):
        (tmp_path / variant).mkdir()
        trainer = build(spec(tmp_path, variant), Phases())
        trainer.args.max_steps = 1
        trainer.train()
        logged[variant] = trainer.state.log_history[0]
    kl, full = logged["kl"], logged["full"]
    assert kl["loss_kl"] == pytest.approx(full["loss_kl"], rel=1e-4)
    assert kl["loss_sft"] == 0 < full["loss_sft"]
    assert kl["loss"] == pytest.approx(kl["loss_kl"], rel=1e-4)
    assert kl["grad_norm"] > 0


def test_sides_take_turns_and_tell_what_they_took(tmp_path: Path) -> None:
    side = Side("RAFT", sys.executable, "benchmarks.raft_step", spec(tmp_path, "kl"))
    started([side])
    try:
        side.turn(1, counts=False)
        side.turn(2, counts=True)
    finally:
        side.end()
    assert (side.steps, len(side.seconds)) == (2, 1)
    assert side.peak_mib > side.resident_mib > 0
    assert {"generation", "teacher", "student forward", "backward", "optimizer"} <= {*side.phases}
    assert side.completion_tokens is not None
    assert 0 < side.completion_tokens <= 12


def test_side_that_fails_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    broken = replace(spec(tmp_path, "kl"), model=str(tmp_path / "nothing"))
    side = Side("RAFT", sys.executable, "benchmarks.raft_step", broken)
    with pytest.raises(StageError, match=r"(?s)RAFT ended:.*nothing"):
        started([side])


def test_side_ends_with_the_comparison_that_was_killed(tmp_path: Path) -> None:
    argument = spec(tmp_path, "kl").to_argument()
    (tmp_path / "kl").mkdir()
    code = (
        "import subprocess, sys, os, signal\n"
        f"side = subprocess.Popen([sys.executable, '-m', 'benchmarks.raft_step', {argument!r}],\n"
        "    stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "side.stdout.readline(); side.send_signal(signal.SIGSTOP)\n"
        "print(side.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    gone = Path(f"/proc/{int(done.stdout)}")
    deadline = time.monotonic() + 10
    while gone.exists() and "Z (zombie)" not in (gone / "status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
