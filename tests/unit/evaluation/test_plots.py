"""The report's figures: what is drawn, and what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import gaussian_kde

from raft_core.evaluation.distance_plots import draw_density, layer_means, weight_distances
from raft_core.evaluation.plots import (
    COLOURS,
    GREY,
    differences,
    direction,
    domain_versus_retention,
    styles,
)


class Axes:
    """Remembers what was drawn."""

    def __init__(self) -> None:
        self.drawn: dict[str, tuple[Any, ...]] = {}

    def plot(self, *values: Any, **_: Any) -> None:
        self.drawn["plot"] = values

    def axvline(self, *values: Any, **_: Any) -> None:
        self.drawn["axvline"] = values


def test_layer_means_by_the_layers_number_in_any_familys_names() -> None:
    run = {
        "model.embed_tokens.weight": 9.0,
        "model.layers.0.mlp.weight": 0.1,
        "model.layers.0.self_attn.q_proj.weight": 0.3,
        "model.layers.11.mlp.weight": 0.5,
    }
    assert layer_means([run]) == {0: pytest.approx(0.2), 11: 0.5}
    assert layer_means([{"transformer.h.3.attn.weight": 0.2}]) == {3: 0.2}


def test_density_is_over_decades_and_integrates_to_one() -> None:
    axes, values = Axes(), np.array([0.01, 0.02, 0.05, 0.1])
    draw_density(axes, values, "-", {})
    x, density, _ = axes.drawn["plot"]
    assert density == pytest.approx(gaussian_kde(np.log10(values))(np.log10(x)))
    # The margin cuts some of the tails off.
    assert 0.8 < np.trapezoid(density, np.log10(x)) <= 1.0


def test_density_of_equal_distances_is_a_line() -> None:
    axes = Axes()
    draw_density(axes, np.array([0.1, 0.1]), "-", {})
    assert axes.drawn == {"axvline": (0.1,)}


def test_retention_a_method_without_one_is_not_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    legends: list[list[str]] = []
    monkeypatch.setattr(
        "raft_core.evaluation.plots.save",
        lambda figure, _: legends.append(figure.axes[0].get_legend_handles_labels()[1]),
    )
    score = {"domain": {"accuracy": 0.5, "low": 0.4, "high": 0.6, "undecided": 0, "n": 9}}
    kept = {"value": 0.9, "low": 0.8, "high": 1.0}
    domain_versus_retention(
        [
            {"method": name, "label": name, "scores": score, "retention": retention}
            for name, retention in (("base", None), ("sdft", kept), ("raft", None))
        ],
        tmp_path / "r.png",
    )
    assert legends == [["base", "sdft"]]


def test_figures_without_anything_to_show_are_not_written(tmp_path: Path) -> None:
    weight_distances({"pruned to nothing": {"a": 0.0}}, tmp_path / "w.png")
    differences([], {}, tmp_path / "d.png")
    assert not list(tmp_path.iterdir())


def test_styles_more_methods_than_colours_differ_by_line_and_marker() -> None:
    found = styles(f"m{n}" for n in range(20))
    assert len({(s.colour, s.line, s.marker) for s in found.values()}) == 20


@pytest.mark.parametrize(
    ("low", "high", "colour"), [(0.1, 0.2, COLOURS[0]), (-0.2, -0.1, COLOURS[1]), (0, 0.2, GREY)]
)
def test_direction_of_an_interval(low: float, high: float, colour: str) -> None:
    assert direction({"low": low, "high": high}) == colour
