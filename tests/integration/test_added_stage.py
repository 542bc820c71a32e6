"""A stage that somebody adds: its file, its settings field and the graph, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.flow import ROOT, small_profile

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
STAGE = '''"""Stage `toy`: how many training rows there are."""

from __future__ import annotations

import json

from raft_core.data.records import read_jsonl
from raft_core.execution.stage import Reads, Stage, StageConfig, StageRun


class ToyStage(StageConfig):
    """What the number of rows is multiplied with."""

    times: int = 1

    def reads(self) -> Reads:
        """Return the training rows."""
        return {"prepare": ("train.jsonl",)}


TOY = Stage("toy", 1, ToyStage, "raft_core.refine.toy", light=True)


def run(stage: StageRun) -> None:
    """Write toy.json."""
    rows = sum(1 for _ in read_jsonl(stage.inputs["prepare"] / "train.jsonl"))
    (stage.out / "toy.json").write_text(json.dumps({"rows": stage.config.times * rows}))
'''
# File -> what is replaced in it, and by what.
PATCH = {
    "raft_core/app/settings.py": [
        ("    fuse: FuseConfig\n", "    fuse: FuseConfig\n    toy: ToyStage = ToyStage()\n"),
        (
            "from raft_core.refine.rewrite import",
            "from raft_core.refine.toy import ToyStage\nfrom raft_core.refine.rewrite import",
        ),
    ],
    "raft_core/app/pipeline.py": [
        ("GATHER, LINEAGE)", "GATHER, LINEAGE, TOY)"),
        (
            "from raft_core.refine.rewrite import",
            "from raft_core.refine.toy import TOY\nfrom raft_core.refine.rewrite import",
        ),
        (
            "nodes=[report, lineage])",
            'nodes=[report, lineage, Node("toy", "toy", settings.toy, {"prepare": prepare})])',
        ),
    ],
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with one stage more."""
    root = tmp_path_factory.mktemp("copy") / "project"
    for folder in ("flows", "tasks", "raft_core", "conf"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "raft_core" / "refine" / "toy.py").write_text(STAGE)
    for name, replaced in PATCH.items():
        text = (root / name).read_text()
        for old, new in replaced:
            assert text.count(old) == 1, (name, old)
            text = text.replace(old, new)
        (root / name).write_text(text)
    return root


def raft(copy: Path, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    home.mkdir(exist_ok=True)
    profile = ["--profile", str(small_profile(home)), "--domain", "law", "--limit", "60"]
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", "run", *profile, *arguments],
        cwd=copy,
        env=os.environ | {"RAFT_HOME": str(home / "home"), "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        timeout=250,
    )


@pytest.mark.parametrize("way", [(), ("--plain",)], ids=["prefect", "plain"])
def test_added_stage_runs(way: tuple[str, ...], copy: Path, tmp_path: Path) -> None:
    done = raft(copy, tmp_path, "--until", "toy", "--set", "toy.times=2", *way)
    assert done.returncode == 0, done.stderr
    (line,) = [x for x in done.stdout.splitlines() if x.startswith("toy ")]
    made = Path(line.split()[-1])
    train = next((made.parents[1] / "prepare").glob("*/train.jsonl")).read_text().splitlines()
    assert json.loads((made / "toy.json").read_text()) == {"rows": 2 * len(train)}


def test_added_stage_is_in_the_dry_run(copy: Path, tmp_path: Path) -> None:
    done = raft(copy, tmp_path, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("toy ")]
