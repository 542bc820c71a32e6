"""Running a flow in this process: Prefect's own temporary API, and what Ctrl-C does.

Imports nothing heavy, so that bad input ends within a second.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from flows.api import choose_api, wait_for_api
from raft_core.app.pipeline import STAGES
from raft_core.app.settings import Settings
from raft_core.config.runtime import RuntimeConfig
from raft_core.errors import EXIT_INTERRUPTED
from raft_core.execution.processes import start_early
from raft_core.store.shared import open_store
from tasks.tracking import end_interrupted


def prepare_process(runtime: RuntimeConfig) -> None:
    """Choose Prefect's API and what Ctrl-C does, before Prefect is imported.

    The collector rests until the flow runs: imports leave hardly any garbage.

    Raises:
        InputError: a server that is named does not answer, or there can be no home.
    """
    gc.disable()
    choose_api(runtime)
    exit_on_interrupt()


def load_early(settings: Settings) -> None:
    """Begin to load what the stages share, unless the store has the first of them: maybe all.

    Raises:
        InputError: the store cannot be used.
    """
    first = STAGES["prepare"].spec(settings.prepare_stage(), {}, settings.runtime)
    if not open_store(settings.runtime).is_kept(first):
        start_early(settings.runtime)


def run_flow(flow: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    """Run a flow once its API answers, and return its result.

    Raises:
        RaftError: the API does not start, or the flow failed.
    """
    gc.freeze()
    gc.enable()
    wait_for_api()
    return flow(**parameters)


def exit_on_interrupt() -> None:
    """Ctrl-C ends the run at once: stages end with it, and what they finished is kept.

    MLflow is told, if it listens; a second Ctrl-C does not wait for that.
    """

    def end(*_: Any) -> None:
        signal.signal(signal.SIGINT, lambda *_: os._exit(EXIT_INTERRUPTED))
        try:
            print(
                "\ninterrupted; finished stages are kept: the same command goes on from there",
                file=sys.stderr,
                flush=True,
            )
            # The stages that ended with it are no failures to be told.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            end_interrupted()
        finally:
            os._exit(EXIT_INTERRUPTED)

    signal.signal(signal.SIGINT, end)
