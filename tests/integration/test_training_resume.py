"""A training that was cut off, torn, out of disk or unwell loses steps, never a result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raft_core.config.base import digest_file
from raft_core.config.runtime import RuntimeConfig
from raft_core.data.records import read_jsonl
from raft_core.distill import distill as distill_stage
from raft_core.distill.config import DistillStage
from raft_core.distill.health import MEANINGS
from raft_core.distill.trainer import RaftTrainer
from raft_core.errors import InputError, StageError
from raft_core.execution.stage import StageRun
from tests.integration.flow import ROOT
from tests.integration.training import STEPS, runtime, settings, stage_run

LORA = {"adapter": {"rank": 4, "alpha": 8, "dropout": 0.1}}
KINDS: dict[str, dict[str, Any]] = {"full": {}, "lora": LORA}


class Cut(Exception):
    pass


@pytest.fixture(scope="module", params=list(KINDS))
def whole(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[DistillStage, dict[str, str]]:
    """The settings of a training, and what it makes where nothing disturbs it."""
    config = settings(**KINDS[request.param])
    stage = stage_run(tmp_path_factory.mktemp(request.param), config)
    distill_stage.run(stage)
    return config, made(stage)


def made(stage: StageRun) -> dict[str, str]:
    """Every file of the artifact with its digest: weights, curves, rollouts and all else."""
    files = (path for path in stage.out.rglob("*") if path.is_file())
    return {path.relative_to(stage.out).as_posix(): digest_file(path) for path in files}


def cut_off(stage: StageRun, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the stage until it ends in the middle, after this step."""

    def cut(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == step:
            raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(distill_stage.CurveCallback, "on_step_end", cut)
        with pytest.raises(Cut):
            distill_stage.run(stage)


def notes(stage: StageRun) -> list[str]:
    events = read_jsonl(stage.out.parent / "events.jsonl")
    return [event["text"] for event in events if event["kind"] == "note"]


@pytest.mark.parametrize("saved", [1, 3, 5])
def test_training_cut_off_resumes_to_the_same_bytes(
    whole: tuple[DistillStage, dict[str, str]],
    saved: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = stage_run(tmp_path, whole[0], save_every=1)
    cut_off(stage, saved + 1, monkeypatch)
    distill_stage.run(stage)
    assert notes(stage) == [f"distill: resuming from checkpoint-{saved}"]
    assert made(stage) == whole[1]


def test_training_cut_off_before_its_first_checkpoint_starts_again(
    whole: tuple[DistillStage, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = stage_run(tmp_path, whole[0])
    cut_off(stage, 1, monkeypatch)
    distill_stage.run(stage)
    assert notes(stage) == []
    assert made(stage) == whole[1]


OF_ANOTHER_PROCESS = """
import sys
from pathlib import Path
from raft_core.distill import distill as stage
from tests.integration.training import settings, stage_run

adapter = {"rank": 4, "alpha": 8, "dropout": 0.1}
stage.run(stage_run(Path(sys.argv[1]), settings(adapter=adapter)))
"""


def test_training_of_an_adapter_is_the_same_bytes_in_another_process(
    whole: tuple[DistillStage, dict[str, str]], tmp_path: Path
) -> None:
    """Whose sets have another order."""
    if whole[0].distill.adapter is None:
        pytest.skip("of an adapter alone")
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", OF_ANOTHER_PROCESS, str(tmp_path / seed)],
            cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed}, check=True, timeout=200,
        )  # fmt: skip
        assert made(stage_run(tmp_path / seed, whole[0])) == whole[1]


@pytest.mark.parametrize("log_every", [1, 3])
def test_training_that_ended_while_it_was_written_trains_nothing_again(
    log_every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checkpoint of the last step holds all that the artifact is made of."""
    undisturbed = stage_run(tmp_path / "whole", settings(log_every=log_every))
    distill_stage.run(undisturbed)
    stage = stage_run(tmp_path / "cut", settings(log_every=log_every))

    def cut(*_: Any) -> None:
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(distill_stage, "write_results", cut)
        with pytest.raises(Cut):
            distill_stage.run(stage)
    distill_stage.run(stage)
    assert notes(stage) == [f"distill: resuming from checkpoint-{STEPS}"]
    trained = [e for e in read_jsonl(tmp_path / "cut" / "events.jsonl") if e["kind"] == "metrics"]
    assert [event["step"] for event in trained] == list(range(log_every, STEPS + 1, log_every))
    assert made(stage) == made(undisturbed)


def test_training_curves_between_checkpoints_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line of means over three steps, of which two were before the checkpoint that was asked."""
    undisturbed = stage_run(tmp_path / "whole", settings(log_every=3))
    distill_stage.run(undisturbed)
    stage = stage_run(tmp_path / "cut", settings(log_every=3))
    cut_off(stage, 5, monkeypatch)
    distill_stage.run(stage)
    assert notes(stage) == ["distill: resuming from checkpoint-3"]
    assert made(stage) == made(undisturbed)


def test_training_in_the_folder_of_another_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `python -m raft_core distill --out` may be called twice."""
    stage = replace(stage_run(tmp_path, settings()), key="one")
    cut_off(stage, 3, monkeypatch)
    with pytest.raises(InputError, match=r"other settings or rows.*remove '.*checkpoints'"):
        distill_stage.run(replace(stage, key="other"))
    distill_stage.run(stage)
    assert notes(stage)[-1] == "distill: resuming from checkpoint-2"


@pytest.mark.parametrize(
    ("sharded_over", "said"), [(2, "is split over 2 processes, this one is not"), (0, "is not")]
)
def test_checkpoint_in_parts_of_other_processes_is_refused(sharded_over: int, said: str) -> None:
    then, now = ({"key": "a", "sharded_over": count} for count in (sharded_over, 0))
    if sharded_over:
        with pytest.raises(InputError, match=said):
            distill_stage.require_same_makers(then, now, Path("checkpoints/checkpoint-2"))
    else:
        distill_stage.require_same_makers(then, now, Path("checkpoints/checkpoint-2"))


@pytest.mark.parametrize("damage", ["torn", "altered", "missing", "unsealed"])
def test_training_damaged_checkpoint_is_left_out_for_the_one_before(
    whole: tuple[DistillStage, dict[str, str]],
    damage: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = stage_run(tmp_path, whole[0])
    cut_off(stage, 5, monkeypatch)
    newest = stage.scratch / "checkpoints" / "checkpoint-4"
    file = newest / ("raft_state.json" if damage == "unsealed" else "optimizer.pt")
    content = file.read_bytes()
    if damage in ("missing", "unsealed"):
        file.unlink()
    else:
        end = b"" if damage == "torn" else b"x" * 100
        file.write_bytes(content[: len(content) - 100] + end)
    distill_stage.run(stage)
    assert notes(stage) == [
        "distill: checkpoint-4 is torn or altered and is left out",
        "distill: resuming from checkpoint-2",
    ]
    assert made(stage) == whole[1]


def test_training_keeps_two_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = stage_run(tmp_path, settings(), save_every=1)
    cut_off(stage, 5, monkeypatch)
    found = {path.name for path in (stage.scratch / "checkpoints").glob("checkpoint-*")}
    assert found == {"checkpoint-3", "checkpoint-4"}


# Files of more than so many bytes cannot be written: what a full disk does, without filling one.
LIMITED = """
import json, resource, signal, sys
from pathlib import Path
from raft_core.distill import distill as stage
from raft_core.errors import StageError
from tests.integration.training import settings, stage_run

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder, limit = Path(sys.argv[1]), int(sys.argv[2])
run, saved = stage_run(folder, settings()), []
plain = stage.RaftTrainer._save_checkpoint

def save(self, *arguments, **named):
    if self.state.global_step >= 4:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    plain(self, *arguments, **named)

stage.RaftTrainer._save_checkpoint = save
try:
    stage.run(run)
except StageError as error:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(json.dumps(str(error)))
"""


@pytest.mark.parametrize("limit", [1_000_000, 5_000_000], ids=["weights", "optimizer"])
def test_training_full_disk_is_one_error_and_the_last_good_checkpoint_stays(
    limit: int, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), str(limit)],
        cwd=ROOT, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    error = json.loads(done.stdout.splitlines()[-1])
    assert "checkpoint of step 4 could not be written" in error
    assert "checkpoint-2 is kept" in error
    assert "Free some space" in error
    stage = stage_run(tmp_path, settings())
    assert [p.name for p in (stage.scratch / "checkpoints").iterdir()] == ["checkpoint-2"]
    distill_stage.run(stage)
    assert notes(stage)[-1] == "distill: resuming from checkpoint-2"


EXPORT_LIMITED = """
import json, resource, signal, sys
from pathlib import Path
from raft_core.distill import distill as stage
from raft_core.errors import StageError
from tests.integration.training import settings, stage_run

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
plain = stage.write_results

def write(*arguments):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    plain(*arguments)

stage.write_results = write
try:
    stage.run(stage_run(Path(sys.argv[1]), settings()))
except StageError as error:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(json.dumps(str(error)))
"""


def test_training_full_disk_at_its_end_is_one_error_and_costs_no_step(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EXPORT_LIMITED, str(tmp_path), "1000000"],
        cwd=ROOT, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    error = json.loads(done.stdout.splitlines()[-1])
    assert "the model could not be written" in error
    assert "the last checkpoint is kept" in error
    stage = stage_run(tmp_path, settings())
    distill_stage.run(stage)
    assert notes(stage) == [f"distill: resuming from checkpoint-{STEPS}"]


def test_training_loss_that_is_no_number_stops_before_it_reaches_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, plain = stage_run(tmp_path, settings()), RaftTrainer._losses

    def poisoned(self: RaftTrainer, *arguments: Any) -> Any:
        found = plain(self, *arguments)
        return [loss * float("nan") for loss in found] if self.state.global_step == 3 else found

    with monkeypatch.context() as patch:
        patch.setattr(RaftTrainer, "_losses", poisoned)
        with pytest.raises(StageError, match=r"loss at step 4 is not finite \(nan, nan\)"):
            distill_stage.run(stage)
    distill_stage.run(stage)
    assert notes(stage)[-1] == "distill: resuming from checkpoint-2"


def test_training_gradient_that_is_no_number_stops_before_it_reaches_the_weights(
    whole: tuple[DistillStage, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a finite loss; in the last step too, after which no loss would tell of it."""
    stage, plain = stage_run(tmp_path, whole[0]), RaftTrainer.training_step
    for step in (4, STEPS):

        def poisoned(self: RaftTrainer, model: Any, *arguments: Any, at: int = step) -> Any:
            loss = plain(self, model, *arguments)
            if self.state.global_step == at - 1:
                first = next(p for p in model.parameters() if p.grad is not None)
                first.grad.view(-1)[0] = float("inf")
            return loss

        with monkeypatch.context() as patch:
            patch.setattr(RaftTrainer, "training_step", poisoned)
            with pytest.raises(StageError, match=rf"gradient at step {step} .* finite \(inf\)"):
                distill_stage.run(stage)
        assert not list(stage.out.iterdir())
    distill_stage.run(stage)
    resumed = [f"distill: resuming from checkpoint-{step}" for step in (2, 4)]
    assert notes(stage) == resumed
    assert made(stage) == whole[1]


def test_training_weight_that_is_no_number_is_not_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it came about: here after the step, so that neither loss nor gradient tells."""

    def poison(self: Any, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        if state.global_step == 4:
            next(model.parameters()).data.view(-1)[0] = float("nan")

    stage = stage_run(tmp_path, settings())
    monkeypatch.setattr(distill_stage.CurveCallback, "on_step_end", poison)
    with pytest.raises(StageError, match=r"norm of the weights at step 4 is not finite \(nan\)"):
        distill_stage.run(stage)
    assert [p.name for p in (stage.scratch / "checkpoints").iterdir()] == ["checkpoint-2"]


@pytest.mark.parametrize("patience", [3, STEPS])
def test_training_that_is_unwell_is_refused_again_under_the_same_limits(
    patience: int, tmp_path: Path
) -> None:
    """No step is trained, also after a stop at the last step, which no training goes on from."""
    stage = replace(stage_run(tmp_path, settings()), runtime=strict(patience))
    for _ in range(2):
        with pytest.raises(StageError, match=f"stopped at step {patience}: .*outside_k"):
            distill_stage.run(stage)
    trained = [e for e in read_jsonl(tmp_path / "events.jsonl") if e["kind"] == "metrics"]
    assert [event["step"] for event in trained] == list(range(1, patience + 1))
    assert not list(stage.out.iterdir())


def strict(patience: int) -> RuntimeConfig:
    """Limits that every training is beyond."""
    health = {"outside_k": {"warn": 0, "stop": 0}, "patience": patience}
    return runtime(health=health)


@pytest.mark.parametrize("signal", list(MEANINGS))
def test_training_every_alarm_stops_it_with_a_checkpoint_and_a_reason(
    signal: str, tmp_path: Path
) -> None:
    """Each by a limit that is always reached, so that each is measured and heard."""
    never = {"warn": None, "stop": None}
    health: dict[str, Any] = dict.fromkeys(MEANINGS, never) | {"patience": 2}
    health[signal] = {"warn": 0, "stop": 0}
    stage = stage_run(tmp_path, settings(), health=health)
    with pytest.raises(StageError, match=r"stopped at step \d: ") as stopped:
        distill_stage.run(stage)
    assert f"({signal} was at least 0" in str(stopped.value)
    assert f"runtime.training.health.{signal}.stop" in str(stopped.value)
    step = str(stopped.value).split("at step ")[1][0]
    assert (stage.scratch / "checkpoints" / f"checkpoint-{step}" / "raft_state.json").is_file()
    assert all(MEANINGS[signal][0] in note for note in notes(stage))
    assert notes(stage)


def test_training_that_is_unwell_warns_stops_and_goes_on_under_other_limits(
    whole: tuple[DistillStage, dict[str, str]], tmp_path: Path
) -> None:
    """The stop costs nothing: where the limits allow it the training ends with the same weights."""
    stage = stage_run(tmp_path, whole[0])
    with pytest.raises(StageError, match=r"stopped at step 3.*outside_k.*checkpoint of this step"):
        distill_stage.run(replace(stage, runtime=strict(3)))
    assert any("the student leaves the teacher's top K" in note for note in notes(stage))
    distill_stage.run(stage)
    assert notes(stage)[-1] == "distill: resuming from checkpoint-3"
    assert made(stage) == whole[1]
