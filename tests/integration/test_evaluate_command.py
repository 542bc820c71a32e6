"""`python -m raft_core evaluate`: one checkpoint, the real engine, the real harness."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from raft_core.mini import world

pytestmark = pytest.mark.integration

CHECKPOINT = Path(__file__).parents[2] / "raft_core" / "mini" / "base"
TASK = """
task: which_value
dataset_path: json
dataset_kwargs: {data_files: ROWS}
test_split: train
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
metadata: {version: 1.0}
"""


def evaluate(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows.cli", "evaluate", *arguments]
    environment = os.environ | {"RAFT_HOME": str(home), "HF_DATASETS_CACHE": str(home / "cache")}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task of the harness: which of two sentences answers a question of the mini world."""
    folder = tmp_path_factory.mktemp("tasks")
    rows, others = world.load("general")[:20], world.load("general")[20:40]
    with open(folder / "rows.jsonl", "w") as file:
        for row, other in zip(rows, others, strict=True):
            wrong = row["answer"].replace(row["expected"][0], other["expected"][0])
            choices = [row["answer"], wrong if wrong != row["answer"] else "No."]
            asked = {"question": row["question"], "choices": choices, "answer": 0}
            file.write(json.dumps(asked) + "\n")
    (folder / "which.yaml").write_text(TASK.replace("ROWS", str(folder / "rows.jsonl")))
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def test_evaluate_ifeval_domain_and_a_task_of_the_harness_scored(
    home: Path, tasks: Path, tmp_path: Path
) -> None:
    which = f"evaluate.benchmarks.which={{kind: lm_eval, task: which_value, tasks_folder: {tasks}}}"
    arguments = ["--model", str(CHECKPOINT), "--benchmarks", "ifeval,domain,which"]
    arguments += ["--limit", "80", "--set", which, "--out", str(tmp_path / "out")]
    ended = evaluate(home, *arguments)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "prompt loose" in ended.stdout
    assert "sentences split by" in ended.stdout
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert set(scores) == {"instructions", "domain", "which"}
    assert scores["instructions"]["accuracy"] > 0.8
    assert scores["which"]["accuracy"] > 0.9  # chance is .5
    assert scores["which"]["n"] == 20
    verdicts = (tmp_path / "out" / "verdicts.jsonl").read_text().splitlines()
    assert len(verdicts) == sum(score["n"] for score in scores.values())

    # Another panel judges the same answers: no model is loaded for it.
    panel = "evaluate.panel=[{kind: contains}]"
    again = evaluate(home, *arguments[:-4], "--set", which, "--set", panel)
    assert again.returncode == 0, again.stderr
    assert re.search(r"respond +Cached", again.stderr)
    assert re.search(r"evaluate +\d", again.stderr)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "no/such/folder/here", "--benchmarks", "ifeval"], "no/such/folder/here"),
        (["--model", str(CHECKPOINT), "--benchmarks", "none"], "no 'none'; evaluate.benchmarks"),
        (["--model", str(CHECKPOINT), "--data", "none.jsonl"], "data 'none.jsonl': no such file"),
    ],
)
def test_evaluate_what_is_not_there_is_one_error(
    home: Path, arguments: list[str], said: str
) -> None:
    ended = evaluate(home, *arguments)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_evaluate_unknown_task_of_the_harness_is_one_error(home: Path) -> None:
    unknown = "evaluate.benchmarks.which={kind: lm_eval, task: no_such_task}"
    ended = evaluate(home, "--model", str(CHECKPOINT), "--benchmarks", "which", "--set", unknown)
    assert ended.returncode == 2
    assert "task 'no_such_task' of lm-evaluation-harness cannot be loaded" in ended.stderr
    assert "Traceback" not in ended.stderr
