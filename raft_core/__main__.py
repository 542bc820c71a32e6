"""`python -m raft_core STAGE --spec spec.json --out DIR`: one stage, without an orchestrator."""

from __future__ import annotations

import argparse
import errno
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from raft_core.app.pipeline import STAGES
from raft_core.config.base import made_folder
from raft_core.config.runtime import RuntimeConfig, allow_open_files, limit_threads
from raft_core.errors import EXIT_ORPHANED, InputError, RaftError, StageError
from raft_core.execution.inputs import Inputs, linked
from raft_core.execution.launcher import is_launched, launch, rank
from raft_core.execution.progress import Progress
from raft_core.execution.stage import StageRun
from raft_core.store.artifacts import StageSpec
from raft_core.store.record import WHOLE_ARTIFACT

Model = TypeVar("Model", bound=BaseModel)
PARENT_POLL_SECONDS = 0.5
_ENDED: list[StageRun] = []
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(arguments: list[str] | None = None) -> int:
    """Run a stage and return the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    if options.exit_with_parent:
        exit_with_parent()
    try:
        spec = read_spec(options.spec)
        runtime = part_of(options.spec, RuntimeConfig, spec.runtime)
        config = part_of(options.spec, STAGES[options.stage].config, spec.config)
        if STAGES[options.stage].trains and runtime.training.processes > 1 and not is_launched():
            limit_threads(runtime.threads_per_stage)
            return launch(runtime.training.processes, given)
        run_stage(options.stage, spec, config, runtime, options.out, options.events)
    except RaftError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
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


def read_spec(file: Path) -> StageSpec:
    """The specification in a file.

    Raises:
        InputError: there is none that can be read.
    """
    try:
        return StageSpec.model_validate_json(file.read_bytes())
    except OSError as error:
        raise InputError(f"spec '{file}': {error.strerror}") from None
    except ValidationError as error:
        raise InputError(f"spec '{file}': {error}") from None


def part_of(file: Path, kind: type[Model], values: Mapping[str, Any]) -> Model:
    """A part of a specification. What a library says of its own settings is no fault of the file.

    Raises:
        InputError: the part is not valid.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise InputError(f"spec '{file}': {error}") from None


def run_stage(
    name: str,
    spec: StageSpec,
    config: BaseModel,
    runtime: RuntimeConfig,
    out: Path,
    events: Path | None,
) -> None:
    """Of several processes the first one alone tells of progress."""
    limit_threads(runtime.threads_per_stage)
    allow_open_files()
    stage = STAGES[name]
    scratch = out.with_name(f"{out.name}.scratch")
    for folder in (out, scratch):
        made_folder(folder, "--out")
    run = StageRun(
        config=config,
        inputs=inputs_of(spec, scratch / f"inputs.{rank()}"),
        out=out,
        scratch=scratch,
        runtime=runtime,
        progress=Progress(events if rank() == 0 else None),
        key=spec.key,
    )
    stage.load()(run)
    # A fork ends without taking an engine apart, which costs vLLM more than a second. With workers
    # of its own an engine has to end them.
    if runtime.forks_stages and runtime.vllm.tensor_parallel_size == 1:
        _ENDED.append(run)


def inputs_of(spec: StageSpec, below: Path) -> Inputs:
    """Return the folders that a stage reads, with the declared parts of its inputs alone."""
    return Inputs(
        {
            name: linked(ref.folder, spec.reads.get(name, WHOLE_ARTIFACT), below / name)
            for name, ref in spec.inputs.items()
        }
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
