"""The errors that a user of RAFT may see; each says what is wrong, where, and what to do."""

import re

EXIT_BAD_INPUT = 2
EXIT_GATE = 3
EXIT_ORPHANED = 4
EXIT_UNWELL = 5
EXIT_INTERRUPTED = 130
# What a script that calls `raft` can tell apart.
EXIT_CODES = {
    0: "done",
    1: "a stage failed, or something is damaged or not running; the message says what",
    EXIT_BAD_INPUT: "bad input: a setting, a file, a model or an option; nothing was started",
    EXIT_GATE: "the base model cannot read references under the teacher's template",
    EXIT_ORPHANED: "a stage's process whose run has ended",
    EXIT_UNWELL: "a training stopped itself; its last good checkpoint is kept",
    EXIT_INTERRUPTED: "Ctrl-C; the same command goes on from there",
}


class RaftError(Exception):
    """Base of every error that ends a run with a message instead of a traceback.

    A message may hold what a row, a file's name or an endpoint says: as text it is `printable`.
    """

    exit_code = 1

    def __str__(self) -> str:
        return printable(super().__str__())


# What a terminal obeys instead of showing it: control characters but tabs and line ends, signs
# that turn the direction of writing around, ends of lines that are no line feed.
CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Return a text that a terminal shows as it stands: `\\x1b` in place of an escape."""
    return CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def first_line(said: object) -> str:
    """What a library's error says, short enough for a message; its type where it is silent."""
    lines = str(said).strip().splitlines()
    if len(lines) > 1 and lines[0].endswith(":"):  # it goes on below
        lines[0] = f"{lines[0]} {lines[1].strip()}"
    return lines[0][:300] if lines else type(said).__name__


class InputError(RaftError):
    """Bad settings, a bad file or a missing model: found before any model loads."""

    exit_code = EXIT_BAD_INPUT


class GateError(RaftError):
    """The base model reads references too badly under the teacher's template to teach from them."""

    exit_code = EXIT_GATE


class EngineError(RaftError):
    """A model or an endpoint failed so often that its answers are no result."""


class StageError(RaftError):
    """A stage process failed; the message ends with the last lines that it wrote."""


class UnwellError(StageError):
    """A training ended itself, because what it learns is worth nothing."""

    exit_code = EXIT_UNWELL
