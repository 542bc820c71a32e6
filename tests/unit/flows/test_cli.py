"""The program `raft`: what it says of itself, and what it does not load."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module

import pytest

from flows.cli import COMMANDS, main, usage
from raft_core.errors import EXIT_CODES, RaftError
from tests.integration.flow import ROOT


def test_help_names_every_command_and_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown == usage().splitlines()
    for name in COMMANDS:
        assert [line for line in shown if line.startswith(f"  {name} ")]
    for code in EXIT_CODES:
        assert [line for line in shown if line.startswith(f"  {code} ")]


def test_page_of_commands_names_them_and_their_exit_codes() -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    assert re.findall(r"^\| `raft ([\w-]+)", page, re.MULTILINE) == list(COMMANDS)
    told = re.findall(r"^\| (\d+) \| (.*) \|$", page, re.MULTILINE)
    assert {int(code): meaning for code, meaning in told} == EXIT_CODES


def test_every_exit_code_of_an_error_is_documented() -> None:
    kinds = [RaftError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert {kind.exit_code for kind in kinds} <= EXIT_CODES.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_command_is_there_and_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: raft {name} ")
    assert f"raft {name} " in shown.partition("example")[2]
    assert callable(getattr(import_module(COMMANDS[name].module), COMMANDS[name].function))


def test_nothing_to_do_is_bad_input_and_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().out.startswith("usage: raft COMMAND")


@pytest.mark.parametrize("arguments", ["['--help']", "['run', '--help']", "['run', '--dry-run']"])
def test_help_and_a_dry_run_load_neither_prefect_nor_mlflow(arguments: str) -> None:
    code = f"""
import sys
from flows.cli import main
try:
    main({arguments})
except SystemExit:
    pass
print("loaded", sorted({{"prefect", "mlflow", "torch", "vllm"}} & sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines()[-1] == "loaded []", done.stderr


@pytest.mark.parametrize("arguments", ["--help", "run --dry-run"])
def test_reader_that_has_seen_enough_ends_it_without_a_word(arguments: str) -> None:
    command = f"set -o pipefail; {sys.executable} -m flows.cli {arguments} | head -c 1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_pipe_that_breaks_elsewhere_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(arguments: list[str]) -> int:
        raise BrokenPipeError

    monkeypatch.setattr("flows.cli.call", breaks)
    with pytest.raises(BrokenPipeError):
        main(["run"])
