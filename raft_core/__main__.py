"""`python -m raft_core STAGE --spec spec.json --out DIR`: one stage, without an orchestrator.

`python -m raft_core evaluate --model PATH --benchmarks ifeval,domain`: one model, all by itself.
`python -m raft_core artifacts ls|explain|verify|gc`: the store.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError

from raft_core.artifacts import StageSpec
from raft_core.errors import EXIT_BAD_INPUT, EXIT_ORPHANED, InputError, RaftError, StageError
from raft_core.launcher import is_launched, launch, rank
from raft_core.progress import Progress
from raft_core.runtime import RuntimeConfig, limit_threads
from raft_core.stage import StageRun
from raft_core.stages import STAGES

PARENT_POLL_SECONDS = 0.5
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 bad input, 1 anything else that has a message."""
    given = sys.argv[1:] if arguments is None else arguments
    command = command_of(given)
    if command is not None:
        return with_message(command, given[1:])
    options = _parser().parse_args(given)
    if options.exit_with_parent:
        exit_with_parent()
    try:
        spec = read_spec(options.spec)
        runtime = RuntimeConfig.model_validate(spec.runtime)
        if STAGES[options.stage].trains and runtime.training.processes > 1 and not is_launched():
            limit_threads(runtime.threads_per_stage)
            return launch(runtime.training.processes, given)
        run_stage(options.stage, spec, runtime, options.out, options.events)
    except RaftError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except ValidationError as error:
        print(f"error: {options.spec}: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except OSError as error:
        if error.errno not in FULL:
            raise
        print(
            f"error: {error.strerror} ({error.filename or options.out}); free some space and run "
            "again: what was finished is kept",
            file=sys.stderr,
        )
        return StageError.exit_code
    return 0


def command_of(arguments: Sequence[str]) -> Callable[[Sequence[str]], int] | None:
    """What is no stage; `evaluate` is one when it is given a specification."""
    if arguments[:1] == ["artifacts"]:
        from raft_core import store_commands

        return store_commands.main
    if arguments[:1] == ["evaluate"] and not any(a.startswith("--spec") for a in arguments):
        from raft_core import evaluate_command

        return evaluate_command.main
    return None


def with_message(command: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    try:
        return command(arguments)
    except RaftError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def read_spec(file: Path) -> StageSpec:
    try:
        return StageSpec.model_validate_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"spec '{file}': {error.strerror}") from None


def run_stage(
    name: str, spec: StageSpec, runtime: RuntimeConfig, out: Path, events: Path | None
) -> None:
    """Of several processes the first one alone tells of progress."""
    limit_threads(runtime.threads_per_stage)
    stage = STAGES[name]
    scratch = out.with_name(f"{out.name}.scratch")
    for folder in (out, scratch):
        folder.mkdir(parents=True, exist_ok=True)
    stage.load()(
        StageRun(
            config=stage.config.model_validate(spec.config),
            inputs={name: ref.folder for name, ref in spec.inputs.items()},
            out=out,
            scratch=scratch,
            runtime=runtime,
            progress=Progress(events if rank() == 0 else None),
        )
    )


def exit_with_parent() -> None:
    """End this process soon after the one that started it, however that one ends.

    An orphan would go on writing into the work folder in which the next run starts again.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_POLL_SECONDS)
        os._exit(EXIT_ORPHANED)

    threading.Thread(target=watch, daemon=True).start()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m raft_core", description=__doc__)
    parser.add_argument("stage", choices=sorted(STAGES))
    parser.add_argument("--spec", type=Path, required=True, help="the stage's spec.json")
    parser.add_argument("--out", type=Path, required=True, help="folder for the artifact")
    parser.add_argument("--events", type=Path, help="append progress here, as JSON lines")
    parser.add_argument("--exit-with-parent", action="store_true", help="end when it ends")
    return parser


if __name__ == "__main__":
    sys.exit(main())
