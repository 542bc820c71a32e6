"""A study in small from the command line: rates, cells, the document, and what is not repeated."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from raft_core.data.records import read_jsonl
from tests.integration.flow import ROOT, small_profile

pytestmark = pytest.mark.timeout(900)


def small_plan(folder: Path) -> Path:
    """One student, one domain, one seed; SFT, pruned SFT and RAFT at two rates."""
    plan = yaml.safe_load((ROOT / "conf" / "studies" / "mini.yaml").read_text())
    rows = {name: plan["rows"][name] for name in ("sft", "sft_more", "fapm", "raft", "lambda_1")}
    plan |= {
        "profile": str(small_profile(folder)),
        "students": {"llama": {"set": ["domain.limit=150"]}},
        "domains": {"law": "mini:law@{seed}"},
        "seeds": [0],
        "rates": [1e-4, 1e-3],
        "rate_domains": ["law"],
        "ablations": {"students": ["llama"], "domains": ["law"]},
        "rows": rows,
        "pairs": [["raft", "fapm"]],
    }
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    (folder / "plan.md").write_text("A remark of the people who ran it.\n")
    return folder / "plan.yaml"


def compare(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows.cli", "study", str(folder / "plan.yaml")]
    return subprocess.run(
        [*command, "--out", str(folder / "docs"), *arguments],
        cwd=ROOT,
        env=os.environ | {"RAFT_HOME": str(folder / "home"), "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=800,
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    small_plan(folder)
    done = compare(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 cells; the document is" in done.stdout
    return folder


def cells_file(folder: Path) -> Path:
    (found,) = (folder / "home" / "store" / "artifacts" / "study").glob("*/cells.jsonl")
    return found


def artifacts(folder: Path) -> set[str]:
    return {path.parent.name for path in (folder / "home" / "store").rglob("record.json")}


def test_study_document_holds_every_table_figure_and_the_remark(study: Path) -> None:
    page = (study / "docs" / "study.md").read_text()
    for said in ("FAPM", "lambda 1", "A remark of the people", "raft study "):
        assert said in page
    for figure in ("frontier-llama", "ratios-llama", "distances-llama"):
        assert f"study/{figure}.png" in page
        assert (study / "docs" / "study" / f"{figure}.png").is_file()
    numbers = json.loads((study / "docs" / "study" / "study.json").read_text())
    assert numbers["cells"] == {"planned": 6, "measured": 6, "missing": []}


def test_study_pruned_row_shares_the_training_of_the_plain_one(study: Path) -> None:
    trained = list((study / "home" / "store" / "artifacts" / "distill").iterdir())
    # sft at two rates and at a given one, raft at two rates, raft with a fixed lambda
    assert len(trained) == 6


def test_study_again_computes_nothing_and_writes_the_same(study: Path) -> None:
    page, before = (study / "docs" / "study.md").read_bytes(), artifacts(study)
    done = compare(study)
    assert done.returncode == 0, done.stdout + done.stderr
    assert artifacts(study) == before
    assert (study / "docs" / "study.md").read_bytes() == page


def test_study_single_cell_alone_prints_its_scores(study: Path) -> None:
    before = artifacts(study)
    done = compare(study, "--only", "llama/law/0/raft")
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = [text for text in done.stdout.splitlines() if text.startswith("llama/law/0/raft")]
    scores = dict(re.findall(r"(\w+) (\d\.\d{3})", line))
    numbers = json.loads((study / "docs" / "study" / "study.json").read_text())
    (cell,) = [c for c in read_jsonl(cells_file(study)) if c["row"] == "raft"]
    assert scores == {name: f"{value:.3f}" for name, value in cell["accuracy"].items()}
    assert numbers["cells"]["measured"] == 6
    assert artifacts(study) == before


def test_study_cell_that_does_not_exist_one_error(study: Path) -> None:
    done = compare(study, "--only", "gpt/*")
    assert done.returncode == 2
    assert "no cell is named like 'gpt/*'" in done.stderr
    assert "Traceback" not in done.stderr
