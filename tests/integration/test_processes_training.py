"""Training in two gloo processes: one process's losses, and a checkpoint like any other."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file

from raft_core.app.pipeline import STAGES
from raft_core.data.records import read_jsonl
from raft_core.distill.config import DistillStage
from raft_core.errors import UnwellError
from raft_core.store.artifacts import ArtifactRef
from tests.integration.flow import ROOT
from tests.integration.training import SFT, runtime, settings, stage_run

pytestmark = pytest.mark.timeout(600)


class Trained:
    """A `distill` stage run by its command line."""

    def __init__(
        self, folder: Path, config: DistillStage, processes: int, shard: bool = True, **health: Any
    ) -> None:
        stage = stage_run(folder, config)
        inputs = {
            name: ArtifactRef(stage=name, key="0" * 24, path=str(path))
            for name, path in stage.inputs.items()
            if name in config.reads()
        }
        how = runtime(processes=processes, shard=shard, health=health)
        spec = STAGES["distill"].spec(config, inputs, how)
        (folder / "spec.json").write_text(spec.model_dump_json())
        self.folder, self.out = folder, stage.out

    def command(self) -> list[str]:
        command = [sys.executable, "-m", "raft_core", "distill"]
        command += ["--spec", str(self.folder / "spec.json"), "--out", str(self.out)]
        return [*command, "--events", str(self.folder / "events.jsonl")]

    def run(self, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(),
            env=os.environ | env,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def losses(self) -> dict[str, list[float]]:
        points = list(read_jsonl(self.out / "curves.jsonl"))
        names = [name for name in ("loss", "loss_sft", "loss_kl", "lambda") if name in points[0]]
        return {name: [point[name] for point in points] for name in names}

    def weights(self) -> dict[str, Any]:
        return load_file(self.out / "checkpoint" / "model.safetensors")


def trained(folder: Path, config: DistillStage, processes: int, shard: bool = True) -> Trained:
    training = Trained(folder, config, processes, shard)
    done = training.run()
    assert done.returncode == 0, done.stdout + done.stderr
    return training


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained(tmp_path_factory.mktemp("alone"), settings(), 1)


@pytest.mark.parametrize("shard", [True, False], ids=["sharded", "replicated"])
def test_training_two_processes_the_losses_and_checkpoint_of_one(
    alone: Trained, tmp_path: Path, shard: bool
) -> None:
    two = trained(tmp_path, settings(), 2, shard)
    found, expected = two.losses(), alone.losses()
    assert set(found) == set(expected) == {"loss", "loss_sft", "loss_kl", "lambda"}
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=1e-4), name
    files = [sorted(p.name for p in (t.out / "checkpoint").iterdir()) for t in (two, alone)]
    assert files[0] == files[1]
    mine, theirs = two.weights(), alone.weights()
    assert {n: (t.shape, t.dtype) for n, t in mine.items()} == {
        n: (t.shape, t.dtype) for n, t in theirs.items()
    }
    assert max((mine[name] - theirs[name]).abs().max().item() for name in theirs) < 1e-4
    assert (two.out / "weight_distance.json").is_file()


def test_training_two_processes_listen_on_loopback_alone(tmp_path: Path) -> None:
    """Nobody else reaches the sockets over which the processes exchange gradients."""
    training = Trained(tmp_path, settings(epochs=1), 2)
    with open(tmp_path / "log.txt", "wb") as log:
        launcher = psutil.Popen(
            training.command(), env=os.environ | {"GLOO_SOCKET_IFNAME": ""}, stdout=log, stderr=log
        )
    listening: set[tuple[str, str]] = set()
    processes = 0
    while launcher.poll() is None:
        tree = [launcher, *launcher.children(recursive=True)]
        processes = max(processes, len(tree))
        for process in tree:
            with suppress(psutil.Error):
                for each in process.net_connections("inet"):
                    if each.status == psutil.CONN_LISTEN:
                        listening.add((process.name(), each.laddr.ip))
        time.sleep(0.02)
    assert launcher.returncode == 0, (tmp_path / "log.txt").read_text()
    assert processes == 3
    assert {address for _, address in listening} == {"127.0.0.1"}, listening


def test_training_sharded_adapter_the_losses_of_one_process(tmp_path: Path) -> None:
    config = settings(adapter={"rank": 4, "alpha": 8}, epochs=1)
    one = trained(tmp_path / "one", config, 1)
    two = trained(tmp_path / "two", config, 2)
    assert two.losses()["loss"] == pytest.approx(one.losses()["loss"], rel=1e-4)
    names = {path.name for path in (two.out / "adapter").iterdir()}
    assert "adapter_model.safetensors" in names
    assert set(two.weights()) == set(one.weights())


def test_training_sharded_cut_off_goes_on_from_its_checkpoint(
    alone: Trained, tmp_path: Path
) -> None:
    """A process that ends takes the others along; the next run resumes."""
    training = Trained(tmp_path, settings(), 2)
    (tmp_path / "sitecustomize.py").write_text(CUT.format(step=3))
    cut = training.run(PYTHONPATH=str(tmp_path), CUT_RANK="1")
    assert cut.returncode == 1
    assert "error: a training process was ended by SIGKILL" in cut.stdout
    done = training.run()
    assert done.returncode == 0, done.stdout + done.stderr
    notes = [e["text"] for e in read_jsonl(tmp_path / "events.jsonl") if e["kind"] == "note"]
    assert notes == ["distill: resuming from checkpoint-2"]
    assert training.losses()["loss"] == pytest.approx(alone.losses()["loss"], rel=1e-4)


# Ends one process as the kernel would, once the trainer has made so many steps.
CUT = """
import os, signal
if os.environ.get("RANK") == os.environ.get("CUT_RANK"):
    import transformers.trainer_callback as callbacks
    plain = callbacks.CallbackHandler.on_step_end
    def on_step_end(self, args, state, control):
        if state.global_step == {step}:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(self, args, state, control)
    callbacks.CallbackHandler.on_step_end = on_step_end
"""


def test_training_processes_agree_on_stopping_where_one_of_them_is_unwell(tmp_path: Path) -> None:
    """One process's rollouts repeat themselves: the mean decides, and all end with the reason."""
    limits = {"repeated": {"warn": None, "stop": 0.4}, "patience": 2}
    training = Trained(tmp_path, settings(), 2, **limits)
    (tmp_path / "sitecustomize.py").write_text(REPEATING)
    done = training.run(PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert done.returncode == UnwellError.exit_code
    assert done.stderr.count("training was stopped at step 2: rollouts repeat themselves") == 2
    checkpoints = tmp_path / "out.scratch" / "checkpoints"
    assert [path.name for path in checkpoints.iterdir()] == ["checkpoint-2"]


REPEATING = """
import os
from raft_core.distill import health
health.repeated_share = lambda ids: float(os.environ.get("RANK", "0"))
"""


def test_training_processes_bad_split_one_error_with_the_exit_code_of_bad_input(
    tmp_path: Path,
) -> None:
    training = Trained(tmp_path, settings(SFT, batch_size=3, epochs=1), 2)
    done = training.run()
    assert done.returncode == 2
    assert "error: distill.batch_size=3 cannot be split over 2 processes" in done.stderr


def test_training_sharded_recomputes_layers(tmp_path: Path) -> None:
    config = settings(gradient_checkpointing=True, epochs=0.5)
    one = trained(tmp_path / "one", config, 1)
    two = trained(tmp_path / "two", config, 2)
    assert two.losses()["loss"] == pytest.approx(one.losses()["loss"], rel=1e-4)
