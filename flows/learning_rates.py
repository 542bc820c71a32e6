"""Choosing each method's learning rate on validation splits, from one grid for all methods.

The rule is the same for every method: the highest harmonic mean of the validation scores (domain,
general, instructions), each averaged over the domains. A model has to have learned the domain and
to have kept the rest; a plain mean would choose a rate at which it learns nothing and so forgets
nothing. What it prints goes into the profile by hand.
"""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Sequence
from statistics import fmean, harmonic_mean
from typing import Any

from flows.local import exit_on_error, use_temporary_api
from raft_core.errors import InputError
from raft_core.settings import Settings, checked, load_settings


def validation_settings(profile: str, domain: str, overrides: Sequence[str]) -> Settings:
    """The run to be repeated at every rate, measured on validation rows.

    Raises:
        InputError: the settings, or what they name, cannot be used for this.
    """
    settings = load_settings(profile, domain, overrides)
    if not settings.learning_rate_grid:
        raise InputError(f"profile '{profile}': field 'learning_rate_grid' is empty; list some")
    return checked(settings.on_validation())


if __name__ == "__main__":
    PARSER = argparse.ArgumentParser(prog="python -m flows.learning_rates", description=__doc__)
    PARSER.add_argument("--profile", default="mini")
    PARSER.add_argument("--domain", action="append", dest="domains")
    PARSER.add_argument("--set", action="append", dest="overrides", default=[])
    PARAMETERS = vars(PARSER.parse_args())
    PARAMETERS["domains"] = PARAMETERS["domains"] or ["law"]
    for name in PARAMETERS["domains"]:
        SETTINGS = exit_on_error(
            lambda name=name: validation_settings(
                PARAMETERS["profile"], name, PARAMETERS["overrides"]
            )
        )
    use_temporary_api(SETTINGS.runtime.home_folder)

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from raft_core.artifacts import Store
from tasks import pipeline
from tasks.display import Display
from tasks.processes import StageProcesses
from tasks.stage import RunContext
from tasks.tracking import Tracker

Scores = dict[tuple[str, float], dict[str, dict[str, float]]]


@flow(
    name="learning-rates",
    task_runner=ThreadPoolTaskRunner(max_workers=256),
    persist_result=False,
)
def learning_rates(
    profile: str = "mini",
    domains: Sequence[str] = ("law",),
    overrides: Sequence[str] = (),
) -> Scores:
    """Scores of every method at every rate: (method, rate) -> domain -> benchmark -> accuracy."""
    scores: Scores = {}
    for domain in domains:
        settings = validation_settings(profile, domain, overrides)
        processes = StageProcesses(settings.runtime)
        with Display() as display, Tracker(settings) as tracker, processes:
            slots = threading.Semaphore(settings.runtime.parallel_stages)
            store = Store(settings.runtime.home_folder / "store")
            context = RunContext(settings, store, tracker, display, processes, slots)
            for cell, accuracies in grid(context).items():
                scores.setdefault(cell, {})[domain] = accuracies
    return scores


def grid(context: RunContext) -> dict[tuple[str, float], dict[str, float]]:
    """Train and measure every cell of one domain; refinement is shared."""
    settings = context.settings
    prepared = pipeline.prepare.submit(context).result()
    rewrites = pipeline.rewrite(context, prepared)
    filtered = pipeline.filter_rewrites.submit(context, prepared, rewrites)
    fused = pipeline.fuse.submit(context, prepared, filtered)
    cells = {}
    for method, switches in settings.methods.items():
        for rate in settings.learning_rate_grid:
            own = context.for_settings(settings.with_learning_rate(method, rate))
            targets = fused if switches.targets == "fused" else None
            name = f"{method} {rate:.1e}"
            trained = pipeline.distill.submit(own, name, prepared, targets, method)
            cells[method, rate] = pipeline.evaluate_model(own, name, prepared, trained)
    done = pipeline.finished(context, {str(cell): future for cell, future in cells.items()})
    return {cell: accuracies(done[str(cell)].folder) for cell in cells}


def accuracies(folder: Any) -> dict[str, float]:
    scores = json.loads((folder / "scores.json").read_text())
    return {name: score["accuracy"] for name, score in scores.items()}


def chosen_rates(scores: Scores) -> dict[str, float]:
    """The best rate of each method; of equal ones the lowest."""
    means = {cell: overall(by_domain) for cell, by_domain in scores.items()}
    return {
        method: min(
            (rate for name, rate in means if name == method),
            key=lambda rate: (-means[method, rate], rate),
        )
        for method in dict.fromkeys(name for name, _ in means)
    }


def mean_scores(by_domain: dict[str, dict[str, float]]) -> dict[str, float]:
    """Each benchmark's accuracy, averaged over the domains."""
    benchmarks = next(iter(by_domain.values()))
    return {b: fmean(scores[b] for scores in by_domain.values()) for b in benchmarks}


def overall(by_domain: dict[str, dict[str, float]]) -> float:
    return harmonic_mean(mean_scores(by_domain).values())


def show(scores: Scores) -> None:
    """Print the whole grid and the choice."""
    benchmarks = list(next(iter(next(iter(scores.values())).values())))
    print(f"\n| method | lr | {' | '.join(benchmarks)} | harmonic mean |")
    print("| --- | --- |" + " ---: |" * (len(benchmarks) + 1))
    chosen = chosen_rates(scores)
    for (method, rate), by_domain in scores.items():
        cells = [f"{score:.3f}" for score in (*mean_scores(by_domain).values(), overall(by_domain))]
        mark = " (chosen)" if chosen[method] == rate else ""
        print(f"| {method} | {rate:.1e}{mark} | {' | '.join(cells)} |")


if __name__ == "__main__":
    show(exit_on_error(lambda: learning_rates(**PARAMETERS)))
