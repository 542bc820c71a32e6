"""Check what can be wrong with settings beyond their form, before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raft_core.app.model_checks import check_models, shapes_of_weights
from raft_core.app.settings import Settings, endpoints_of
from raft_core.config.base import fingerprint, pinned
from raft_core.config.runtime import RuntimeConfig
from raft_core.engines.openai_client import open_client
from raft_core.errors import InputError
from raft_core.evaluation.benchmarks import BenchmarkConfig
from raft_core.facts.nli import check_nli
from raft_core.refine.prepare import load_examples, require_splits


def checked(settings: Settings) -> Settings:
    """Check data rows, benchmarks, endpoints and models; return settings with commits pinned.

    Raises:
        InputError: the first thing that is wrong.
    """
    require_splits(load_examples(settings.domain, settings.prepare), settings.domain)
    require_rows(settings.evaluate.benchmarks)
    require_endpoint_keys(settings, settings.runtime)
    settings.runtime.require_modules()
    check_models(settings)
    require_layers(settings)
    if settings.guard is not None and settings.guard.nli is not None:
        check_nli(settings.guard.nli)
    at_commits: Settings = pinned(settings)
    fingerprint(at_commits)
    return at_commits


def require_layers(settings: Settings) -> None:
    """Require that an adapter which names layers names some of the model's.

    Raises:
        InputError: the model, which is a local folder, has no such layer.
    """
    adapter, folder = settings.distill.adapter, settings.base.local_folder()
    if adapter is None or isinstance(adapter.modules, str) or folder is None:
        return
    tensors = shapes_of_weights(folder, f"model '{settings.base.path}'")
    layers = {name.split(".")[-2] for name in tensors if name.count(".") > 1}
    missing = [name for name in adapter.modules if name.split(".")[-1] not in layers]
    if missing:
        raise InputError(
            f"distill.adapter.modules: model '{settings.base.path}' has no layer '{missing[0]}'; "
            f"it has {', '.join(sorted(layers))}"
        )


def require_rows(benchmarks: Mapping[str, BenchmarkConfig]) -> None:
    """Require rows of every benchmark with data of its own.

    Raises:
        InputError: one has none, or a row cannot be used.
    """
    for name, benchmark in benchmarks.items():
        asks_itself = bool(benchmark.domain_files) or benchmark.kind == "lm_eval"
        if not asks_itself and not benchmark.items(Path()):
            raise InputError(f"evaluate.benchmarks.{name}: its data has no rows")


def require_endpoint_keys(value: Any, runtime: RuntimeConfig) -> None:
    """Require a key and an HTTP client for every endpoint that settings use.

    Raises:
        InputError: one has not.
    """
    for endpoint in sorted(endpoints_of(value)):
        open_client(endpoint, runtime.endpoints[endpoint]).close()
