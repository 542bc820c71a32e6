"""Choosing each method's learning rate on validation splits, from one grid for all methods.

The rule (`raft_core.evaluation.study.rates`) is the same for every method, on the scores averaged
over the domains. What it prints goes into the profile by hand.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from flows.local import prepare_process, run_flow
from raft_core.app.checks import checked
from raft_core.app.settings import Settings, load_settings
from raft_core.errors import InputError, RaftError

Result = TypeVar("Result")


def validation_settings(profile: str, domain: str, overrides: Sequence[str]) -> Settings:
    """The run to be repeated at every rate, measured on validation rows.

    Raises:
        InputError: the settings, or what they name, cannot be used for this.
    """
    settings = load_settings(profile, domain, overrides)
    if not settings.learning_rate_grid:
        raise InputError(f"profile '{profile}': field 'learning_rate_grid' is empty; list some")
    return checked(settings.on_validation())


def exit_on_error(action: Callable[[], Result]) -> Result:
    """Return what `action` does; an error that is meant for the user ends the process with it."""
    try:
        return action()
    except RaftError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


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
    exit_on_error(lambda: prepare_process(SETTINGS.runtime))

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from raft_core.app.pipeline import evaluate, prepare_node, refine, train, training_rows
from raft_core.evaluation.evaluate import accuracies
from raft_core.evaluation.study.rates import best_rate, mean_scores, overall
from tasks.pipeline import submit_graph
from tasks.run_context import RunContext, open_context
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
        with open_context(settings.runtime, Tracker.of(settings)) as context:
            for cell, accuracy in grid(context, settings).items():
                scores.setdefault(cell, {})[domain] = accuracy
    return scores


def grid(context: RunContext, settings: Settings) -> dict[tuple[str, float], dict[str, float]]:
    """Train and measure every cell of one domain; refinement is shared."""
    prepare = prepare_node(settings)
    made = submit_graph(context, [prepare])
    refined = refine(settings, prepare, training_rows(made[prepare]))
    cells = {}
    for method in settings.methods:
        for rate in settings.learning_rate_grid:
            own, name = settings.with_learning_rate(method, rate), f"{method} {rate:.1e}"
            trained = train(own, method, refined, name=name)
            cells[method, rate] = evaluate(own, name, prepare, trained)
    done = submit_graph(context, list(cells.values()), made)
    return {cell: accuracies(done[node].folder) for cell, node in cells.items()}


def chosen_rates(scores: Scores) -> dict[str, float]:
    """The best rate of each method."""
    means = means_of(scores)
    methods = dict.fromkeys(method for method, _ in means)
    return {m: best_rate({r: v for (name, r), v in means.items() if name == m}) for m in methods}


def means_of(scores: Scores) -> dict[tuple[str, float], dict[str, float]]:
    """Each cell's accuracies, averaged over the domains."""
    return {cell: mean_scores(list(by_domain.values())) for cell, by_domain in scores.items()}


def show(scores: Scores) -> None:
    """Print the whole grid and the choice."""
    benchmarks = list(next(iter(next(iter(scores.values())).values())))
    print(f"\n| method | lr | {' | '.join(benchmarks)} | harmonic mean |")
    print("| --- | --- |" + " ---: |" * (len(benchmarks) + 1))
    chosen = chosen_rates(scores)
    for (method, rate), means in means_of(scores).items():
        cells = [f"{score:.3f}" for score in (*means.values(), overall(means))]
        mark = " (chosen)" if chosen[method] == rate else ""
        print(f"| {method} | {rate:.1e}{mark} | {' | '.join(cells)} |")


if __name__ == "__main__":
    show(exit_on_error(lambda: run_flow(learning_rates, PARAMETERS)))
