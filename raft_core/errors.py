"""The errors that a user of RAFT may see; each says what is wrong, where, and what to do."""

EXIT_BAD_INPUT = 2
EXIT_GATE = 3
EXIT_ORPHANED = 4
EXIT_UNWELL = 5


class RaftError(Exception):
    """Base of every error that ends a run with a message instead of a traceback."""

    exit_code = 1


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
