"""How far training moved the weights: density over all matrices, and mean by layer.

Distances are ||W - W0|| / ||W0|| by parameter name, as `weight_distance.json` holds them, one
mapping a run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from raft_core.evaluation.plots import Style, new_axes, save, styles
from raft_core.evaluation.statistics import Floats

Distances = Mapping[str, float]
LAYER = re.compile(r"\b(?:layers|h|blocks)\.(\d+)\.")
KDE_POINTS = 200
KDE_MARGIN = 0.4  # decades beside the outermost values


@dataclass(frozen=True, slots=True)
class DistanceLine:
    """One method in both plots, and how it is drawn."""

    label: str
    runs: Sequence[Distances]
    style: Style


def weight_distances(by_label: Mapping[str, Distances], path: Path) -> None:
    """One line a method. Methods that moved no weight are left out; without any, no file."""
    styled = styles(by_label)
    lines = [
        DistanceLine(label, [distances], styled[label])
        for label, distances in by_label.items()
        if any(distances.values())
    ]
    if not lines:
        return
    figure, (density, layers) = new_axes(columns=2, size=(5.5, 3.8))
    draw_distances(density, layers, lines)
    density.legend()
    save(figure, path)


def draw_distances(density: Any, layers: Any, lines: Sequence[DistanceLine]) -> None:
    """Left the density of all matrices' distances, right their mean per layer."""
    for line in lines:
        looks: dict[str, Any] = {"color": line.style.colour, "label": line.label}
        values = np.array([d for run in line.runs for d in run.values() if d > 0])
        draw_density(density, values, line.style.line, looks)
        by_layer = layer_means(line.runs)
        layers.plot(
            list(by_layer),
            list(by_layer.values()),
            line.style.line,
            marker=line.style.marker,
            markersize=4,
            **looks,
        )
    density.set(xscale="log", xlabel="relative distance ||W - W0|| / ||W0||", ylim=(0, None))
    density.set(ylabel="density per decade", title="all weight tensors")
    layers.set(xlabel="layer", ylabel="mean relative distance", title="by layer", ylim=(0, None))
    layers.xaxis.get_major_locator().set_params(integer=True)
    for axes in (density, layers):
        axes.grid(alpha=0.3)


def draw_density(axes: Any, values: Floats, line: str, looks: Mapping[str, Any]) -> None:
    """Gaussian kernel density of log10(values); a vertical line where they do not differ."""
    from scipy.stats import gaussian_kde

    logs = np.log10(values)
    if logs.std() < 1e-9:
        axes.axvline(values[0], linestyle=line, **looks)
        return
    grid = np.linspace(logs.min() - KDE_MARGIN, logs.max() + KDE_MARGIN, KDE_POINTS)
    axes.plot(10**grid, gaussian_kde(logs)(grid), line, **looks)


def layer_means(runs: Sequence[Distances]) -> dict[int, float]:
    """Layer -> mean relative distance of its tensors over all runs; others are left out."""
    by_layer: dict[int, list[float]] = {}
    for run in runs:
        for name, distance in run.items():
            if found := LAYER.search(name):
                by_layer.setdefault(int(found.group(1)), []).append(distance)
    return {layer: fmean(by_layer[layer]) for layer in sorted(by_layer)}
