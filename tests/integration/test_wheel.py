"""The wheel: what it holds, and that it runs where there is no checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.integration.flow import ROOT

PARTS = ("flows", "tasks", "raft_core", "conf", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing of it is left here."""
    copy = tmp_path_factory.mktemp("copy")
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, copy / name)
    build = "from setuptools.build_meta import build_wheel; build_wheel('dist')"
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, capture_output=True)
    (built,) = (copy / "dist").glob("*.whl")
    return built


def test_wheel_holds_all_modules_profiles_and_embedded_files(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    code = [f for name in ("flows", "tasks", "raft_core") for f in (ROOT / name).rglob("*")]
    wanted = {str(f.relative_to(ROOT)) for f in code if f.is_file() and f.suffix != ".pyc"}
    conf = {f.relative_to(ROOT) for f in (ROOT / "conf").rglob("*") if f.is_file()}
    wanted |= {f"raft_core/{file}" for file in conf}
    assert wanted - held == set()
    assert {name.partition("/")[0] for name in held} == {
        *("flows", "tasks", "raft_core"),
        *(name.partition("/")[0] for name in held if ".dist-info/" in name),
    }


def test_installed_wheel_runs_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    install = ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(site)]
    subprocess.run([sys.executable, *install, str(wheel)], check=True, timeout=120)
    environment = os.environ | {"PYTHONPATH": str(site), "RAFT_HOME": str(tmp_path / "home")}

    def raft(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(site / "bin" / "raft"), *arguments],
            cwd=empty,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    told = raft("run", "--dry-run", "--json", "--limit", "150")
    assert told.returncode == 0, told.stderr
    assert {"rewrite", "distill raft"} <= {s["label"] for s in json.loads(told.stdout)["stages"]}
    refused = raft("run", "--domain", "sport")
    assert refused.returncode == 2
    assert f"no {site}/raft_core/conf/domains/sport.yaml" in refused.stderr
    deployed = raft("stack", "up")
    assert deployed.returncode == 2
    assert "call `raft stack` of a checkout" in deployed.stderr
    assert list(empty.iterdir()) == []
