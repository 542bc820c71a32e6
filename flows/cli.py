"""`raft`: one program for everything. A subcommand's module is imported when it is called."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from raft_core.errors import EXIT_BAD_INPUT, EXIT_CODES, RaftError


class Command(NamedTuple):
    """`function` of `module` takes the arguments and returns the exit code."""

    module: str
    function: str
    help: str


COMMANDS = {
    "run": Command(
        "flows.commands", "run", "train on a domain, and see what was learned and what was lost"
    ),
    "documents": Command(
        "flows.commands", "documents", "make question-answer pairs of documents, for `raft run`"
    ),
    "retrain": Command(
        "flows.commands", "retrain", "train on today's rows, and promote the model if it holds"
    ),
    "evaluate": Command(
        "raft_core.app.evaluate_command", "main", "score one model on the benchmarks"
    ),
    "study": Command("flows.commands", "study", "compare methods on many models, domains, seeds"),
    "models": Command("flows.models", "main", "list, promote or roll back a domain's models"),
    "artifacts": Command(
        "raft_core.app.store_commands", "main", "look at the store: ls, explain, verify, gc"
    ),
    "stack": Command(
        "tasks.stack.__main__", "main", "servers and workers of this machine: up, down, status"
    ),
    "ui": Command("tasks.browse", "main", "open MLflow's page on the runs"),
}
USAGE = """usage: raft COMMAND [options]

RAFT fine-tunes a language model on a domain without making it forget what it could do.

commands:
{commands}

  raft COMMAND --help   the options of a command

first steps:
  raft run                              the embedded example, about two minutes
  raft run --data rows.jsonl --dry-run  what a run on your rows would take
  raft run --data rows.jsonl            rows of {{"question": ..., "answer": ...}}

exit codes:
{codes}"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Call a subcommand and return its exit code."""
    try:
        code = call(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except BrokenPipeError:
        if not reader_is_gone():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def reader_is_gone() -> bool:
    """Return whether whoever reads what is printed, `head` say, has seen enough."""
    asked = select.poll()
    asked.register(sys.stdout.fileno(), 0)  # a pipe without a reader is an error in any case
    return bool(asked.poll(0))


def call(given: list[str]) -> int:
    """Call what the arguments name; an error that is meant for the user is one line."""
    if not given or given[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if given else EXIT_BAD_INPUT
    name, *rest = given
    if name not in COMMANDS:
        print(f"error: raft has no command '{name}'; it has {', '.join(COMMANDS)}", file=sys.stderr)
        return EXIT_BAD_INPUT
    command = COMMANDS[name]
    function = getattr(import_module(command.module), command.function)
    try:
        code: int = function(rest)
        return code
    except RaftError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def usage() -> str:
    """Return what `raft --help` prints."""
    commands = "\n".join(f"  {name:<10} {command.help}" for name, command in COMMANDS.items())
    codes = "\n".join(f"  {code:<4} {meaning}" for code, meaning in EXIT_CODES.items())
    return USAGE.format(commands=commands, codes=codes)


if __name__ == "__main__":
    sys.exit(main())
