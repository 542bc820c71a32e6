"""Commands: what is given wrongly ends with one message and exit code 2, and nothing is done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.cli import COMMANDS, main
from raft_core.__main__ import main as run_stage
from raft_core.errors import EXIT_BAD_INPUT
from raft_core.store.artifacts import Store
from tests.artifacts import committed, spec

SPEC = {"stage": "prepare", "version": 1, "config": {}, "identity": {}}
# Arguments and what is said; `~` is the test's own folder.
CALLS: dict[str, tuple[str, str]] = {
    "stage that is a path": ("artifacts ls --stage /etc", "invalid choice: '/etc'"),
    "stage that is none": ("artifacts verify --stage no", "invalid choice: 'no'"),
    "days that are no number": ("artifacts gc --days nan", "--days: nan: give a number from 0"),
    "days that are text": ("artifacts gc --days x", "--days: invalid days value: 'x'"),
    "days without end": ("artifacts gc --days inf", "--days: inf: give a number from 0"),
    "days beyond all dates": ("artifacts gc --days 1e12", "--days: 1e12: give a number from 0"),
    "days to come": ("artifacts gc --days=-1", "--days: -1: give a number from 0"),
    "store that is a file": ("artifacts --store ~/binary verify", "is no folder"),
    "store that is not there": ("artifacts verify --store ~/nowhere", "no such folder"),
    "store in a circle": ("artifacts verify --store ~/loop", "Too many levels"),
    "specification that is not there": ("prepare --spec ~/no --out ~/o", "No such file"),
    "specification that is a folder": ("prepare --spec ~ --out ~/o", "Is a directory"),
    "specification that is binary": ("prepare --spec ~/binary --out ~/o", "spec '"),
    "specification nested too deep": ("prepare --spec ~/deep --out ~/o", "recursion limit"),
    "specification without settings": ("prepare --spec ~/spec --out ~/o", "domain\n  Field requ"),
    "specification of a runtime that is none": ("prepare --spec ~/devices --out ~/o", "device\n"),
    "output that is a file": (
        "gather --spec ~/gather --out ~/binary",
        "File exists; give a",
    ),
    "output below a file": ("gather --spec ~/gather --out ~/binary/o", "Not a directory; give a"),
    "model that is not there": ("evaluate --model ~/no", "has no config.json"),
    "command that is none": ("train --data ~/no", "raft has no command 'train'; it has run, "),
    "stage that no run has": ("run --until filtr", "no such stage; it has prepare, rewrite"),
    "model of a name without end": ("evaluate --model " + "x" * 5000, "File name too long"),
}


@pytest.mark.parametrize("name", CALLS)
def test_command_that_cannot_be_followed_is_one_message(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAFT_STORE", str(tmp_path / "store"))
    committed(Store(tmp_path / "store"), spec())
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "deep").write_text("[" * 100_000)
    for file, changed in {
        "spec": {},
        "devices": {"runtime": {"device": "tpu"}},
        "gather": {"stage": "gather"},
    }.items():
        (tmp_path / file).write_text(json.dumps(SPEC | changed))
    arguments, said = CALLS[name]
    given = [a.replace("~", str(tmp_path)) for a in arguments.split()]
    try:
        code = main(given) if given[0] in (*COMMANDS, "train") else run_stage(given)
    except SystemExit as ended:  # argparse's own
        code = int(ended.code or 0)
    shown = capsys.readouterr()
    assert code == EXIT_BAD_INPUT
    assert said in shown.err
    assert shown.err.count("error: ") == 1
    assert not shown.out


@pytest.mark.parametrize("arguments", ["--store ~/own {}", "{} --store ~/own"])
@pytest.mark.parametrize("action", ["ls", "verify", "gc", "explain {} {}"])
def test_store_is_taken_before_and_after_the_action(
    arguments: str,
    action: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And wins over the environment's."""
    monkeypatch.setenv("RAFT_STORE", str(tmp_path / "other"))
    own = committed(Store(tmp_path / "own"), spec())
    called = arguments.format(action.format(own.key, own.key)).replace("~", str(tmp_path))
    assert main(["artifacts", *called.split()]) == 0
    assert capsys.readouterr().out
