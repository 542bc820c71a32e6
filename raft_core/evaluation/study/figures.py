"""The study's figures, one PNG a student each; a row has the same colour in all of them.

Every function returns whether there was something to draw; otherwise it writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from raft_core.evaluation.distance_plots import DistanceLine, draw_distances
from raft_core.evaluation.metrics import Estimate
from raft_core.evaluation.plots import BASE_STYLE, Style, new_axes, save, styles, whiskers
from raft_core.evaluation.statistics import Floats
from raft_core.evaluation.study.analysis import SMALLEST_LOSS, StudentAnalysis, unweighted_ratio
from raft_core.evaluation.study.config import BASE, StudyStage
from raft_core.evaluation.study.results import CellResult, Results

NEAR = 0.25  # accuracy
WHISKERS: dict[str, Any] = {"markersize": 6, "capsize": 2, "elinewidth": 1, "zorder": 3}


def row_styles(config: StudyStage) -> dict[str, Style]:
    """Row -> style. Rows that are drawn together come first, so that their colours differ."""
    drawn = [*config.grouped("main"), *config.grouped("balance"), *config.rows]
    return {BASE: BASE_STYLE} | styles(row for row in dict.fromkeys(drawn) if row != BASE)


def loss_ratios(results: Results, student: str, path: Path) -> bool:
    """Both ratios of the losses: geometric means over runs, one standard deviation as band."""
    config, styled = results.config, row_styles(results.config)
    known = {row: distilled(results.of(student, row)) for row in config.grouped("balance")}
    known = {row: runs for row, runs in known.items() if runs}
    if not known:
        return False
    figure, pair = new_axes(columns=2, size=(6, 3.8))
    titles = ("SFT loss / KL loss", "SFT loss / (lambda x KL loss)")
    for axes, weighted, title in zip(pair, (False, True), titles, strict=True):
        for row, runs in known.items():
            steps, mean, spread = over_steps(runs, weighted)
            style = styled[row]
            axes.plot(steps, 10**mean, style.line, color=style.colour, label=config.label(row))
            if len(runs) > 1:
                low, high = 10 ** (mean - spread), 10 ** (mean + spread)
                axes.fill_between(steps, low, high, color=style.colour, alpha=0.15, linewidth=0)
        axes.axhline(1, color="black", linewidth=0.8, alpha=0.5)
        axes.set(title=title, xlabel="optimizer step", yscale="log")
        axes.grid(alpha=0.3)
    pair[0].set_ylabel("ratio")
    finish(figure, pair[0], path)
    return True


def distilled(runs: Sequence[CellResult]) -> list[CellResult]:
    return [run for run in runs if any("loss_kl" in point for point in run.curves)]


def over_steps(runs: Sequence[CellResult], weighted: bool) -> tuple[Floats, Floats, Floats]:
    """Steps, and the mean and standard deviation over runs of log10 of the ratio at each."""
    at_step: dict[float, list[float]] = {}
    for run in runs:
        for point in run.curves:
            if "loss_kl" in point:
                ratio = point["ratio_sft_kl"] if weighted else unweighted_ratio(point)
                at_step.setdefault(point["step"], []).append(max(ratio, SMALLEST_LOSS))
    steps = sorted(at_step)
    logs = [np.log10(at_step[step]) for step in steps]
    return np.array(steps), np.array([x.mean() for x in logs]), np.array([x.std() for x in logs])


def weight_distances(results: Results, student: str, path: Path) -> bool:
    """Left the density of all weight tensors' relative distances, right their mean per layer."""
    config, styled = results.config, row_styles(results.config)
    known = {
        row: runs
        for row in config.grouped("main")
        if (runs := [run for run in results.of(student, row) if any(run.distances.values())])
    }
    if not known:
        return False
    figure, (density, layers) = new_axes(columns=2, size=(6, 3.8))
    lines = [
        DistanceLine(
            label=config.label(row),
            runs=[run.distances for run in runs],
            style=styled[row],
        )
        for row, runs in known.items()
    ]
    draw_distances(density, layers, lines)
    finish(figure, density, path)
    return True


def frontier(student: StudentAnalysis, config: StudyStage, path: Path) -> bool:
    """First benchmark against the first retained one: test points with intervals, and the grid.

    The right half shows the test points near the best of both again, without the grid.
    """
    rows = [row for row in config.grouped("main") if row in student.rows]
    if not rows or not config.retained:
        return False
    names, styled = (config.retained[0], config.benchmarks[0]), row_styles(config)
    points = {row: [student.rows[row].scores[name] for name in names] for row in rows}
    figure, (everything, best) = new_axes(columns=2, size=(6, 4.4))
    grid = config.grid.get(student.student, {})
    for row in rows:
        draw_grid(everything, grid.get(row, {}), names, styled[row])
    for row, (kept, learned) in points.items():
        for axes in (everything, best):
            axes.errorbar(
                kept.value,
                learned.value,
                xerr=whiskers(kept.value, asdict(kept)),
                yerr=whiskers(learned.value, asdict(learned)),
                fmt=styled[row].marker,
                color=styled[row].colour,
                label=config.label(row),
                **WHISKERS,
            )
    title = "large: test; small: validation at every rate" if grid else "all rows"
    everything.set_title(title, fontsize="medium")
    best.set_title("test, near the best", fontsize="medium")
    best.set(**near_best(list(points.values())))
    for axes in (everything, best):
        axes.set(xlabel=f"{names[0]} accuracy", ylabel=f"{names[1]} accuracy")
        axes.grid(alpha=0.3)
    finish(figure, everything, path)
    return True


def near_best(points: Sequence[Sequence[Estimate]]) -> dict[str, tuple[float, float]]:
    """Limits of both axes around the points that are at most NEAR below the best on both."""
    best = [max(estimate.value for estimate in axis) for axis in zip(*points, strict=True)]
    near = [
        point
        for point in points
        if all(e.value >= top - NEAR for e, top in zip(point, best, strict=True))
    ]
    limits = {}
    for name, axis in zip(("xlim", "ylim"), zip(*(near or points), strict=True), strict=True):
        low, high = min(e.low for e in axis), max(e.high for e in axis)
        margin = 0.05 * (high - low) + 0.005
        limits[name] = (low - margin, high + margin)
    return limits


def draw_grid(
    axes: Any,
    by_rate: Mapping[str, Mapping[str, float]],
    names: tuple[str, str],
    style: Style,
) -> None:
    """A row's validation accuracies on two benchmarks, joined in the order of its rates."""
    points = [
        tuple(by_rate[rate][name] for name in names)
        for rate in sorted(by_rate, key=float)
        if set(names) <= by_rate[rate].keys()
    ]
    if points:
        looks = {"color": style.colour, "alpha": 0.5, "linewidth": 1, "markersize": 3.5}
        axes.plot(*zip(*points, strict=True), style.line, marker=style.marker, **looks)


def finish(figure: Any, labelled: Any, path: Path) -> None:
    """Put the legend of one axes beside all, and write the file."""
    handles, labels = labelled.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside center right", frameon=False)
    save(figure, path)
