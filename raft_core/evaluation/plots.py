"""The report's figures; each function writes one PNG."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Okabe & Ito (2008): told apart with every common kind of colour vision. Grey is the base's.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#7F7F7F"
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D")


@dataclass(frozen=True, slots=True)
class Style:
    """How one method is drawn wherever it is drawn."""

    colour: str
    line: str
    marker: str


BASE_STYLE = Style(GREY, LINES[0], MARKERS[0])
BASE_RETENTION = {"value": 1.0, "low": 1.0, "high": 1.0}


def styles(methods: Iterable[str]) -> dict[str, Style]:
    """Method -> style, by its place: when the colours are used up, with other lines and markers."""
    found = {}
    for index, method in enumerate(methods):
        turn = index // len(COLOURS)
        found[method] = Style(
            COLOURS[index % len(COLOURS)], LINES[turn % len(LINES)], MARKERS[turn % len(MARKERS)]
        )
    return found


def new_axes(columns: int = 1, rows: int = 1, size: tuple[float, float] = (5.5, 4)) -> Any:
    """A figure and its axes (one, or an array of rows x columns); `size` is inches an axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        rows, columns, figsize=(size[0] * columns, size[1] * rows), layout="constrained"
    )
    return figure, axes


def save(figure: Any, path: Path) -> None:
    """Write the figure as PNG and free it."""
    from matplotlib import pyplot

    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def domain_versus_retention(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Domain accuracy against retention, both with their intervals; up and right is better.

    A method whose retention is undefined has no place in it.
    """
    figure, axes = new_axes()
    styled = styles(row["label"] for row in rows if row["method"] != "base")
    for row in rows:
        style = styled.get(row["label"], BASE_STYLE)
        score = row["scores"]["domain"]
        kept = BASE_RETENTION if row["method"] == "base" else row["retention"]
        if kept is None or score["undecided"] == score["n"]:
            continue
        axes.errorbar(
            kept["value"],
            score["accuracy"],
            xerr=whiskers(kept["value"], kept),
            yerr=whiskers(score["accuracy"], score),
            fmt=style.marker,
            capsize=3,
            color=style.colour,
            label=row["label"],
        )
    axes.set(xlabel="retention of general ability", ylabel="domain accuracy", ylim=(-0.03, 1.03))
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, path)


def differences(
    compared: Sequence[Mapping[str, Any]], labels: Mapping[str, str], path: Path
) -> None:
    """Differences of accuracies with their intervals, a panel a benchmark, a line a pair.

    `compared` is what `comparison.comparisons` makes; without any entry no file is written.
    """
    if not compared:
        return
    pairs = list(dict.fromkeys((each["a"], each["b"]) for each in compared))
    benchmarks = list(dict.fromkeys(each["benchmark"] for each in compared))
    figure, grid = new_axes(len(benchmarks), size=(3.4, 1.2 + 0.32 * len(pairs)))
    panels = [grid] if len(benchmarks) == 1 else list(grid)
    for axes, benchmark in zip(panels, benchmarks, strict=True):
        for each in compared:
            if each["benchmark"] == benchmark:
                found = each["difference"]
                axes.errorbar(
                    found["value"],
                    pairs.index((each["a"], each["b"])),
                    xerr=whiskers(found["value"], found),
                    fmt="o",
                    capsize=3,
                    color=direction(found),
                )
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set(title=benchmark)
        axes.set_yticks(range(len(pairs)), ["" for _ in pairs])
        axes.set_ylim(len(pairs) - 0.5, -0.5)
        axes.grid(alpha=0.3, axis="x")
    panels[0].set_yticklabels([f"{labels[a]} - {labels[b]}" for a, b in pairs])
    figure.supxlabel("difference of accuracies, 95% interval (grey: contains 0)", fontsize="medium")
    save(figure, path)


def direction(found: Mapping[str, float]) -> str:
    """Blue where the interval lies above 0, orange where below, grey where it holds 0."""
    if found["low"] > 0:
        return COLOURS[0]
    return COLOURS[1] if found["high"] < 0 else GREY


def whiskers(value: float, bounds: Mapping[str, float]) -> list[list[float]]:
    """The two lengths of an error bar, as `errorbar` takes them."""
    return [[max(0.0, value - bounds["low"])], [max(0.0, bounds["high"] - value)]]


def similarity_histogram(rows: Sequence[Mapping[str, Any]], tau: float, path: Path) -> None:
    """Cosines of all rewrites, by the filter's verdict."""
    figure, axes = new_axes()
    for passed, label, colour in ((True, "passed", COLOURS[0]), (False, "rejected", COLOURS[1])):
        values = [
            row["similarity"]
            for row in rows
            if row["passed"] is passed and row["similarity"] is not None
        ]
        axes.hist(values, bins=40, range=(0, 1), alpha=0.7, label=label, color=colour)
    axes.axvline(tau, color="black", linestyle="--", label=f"tau = {tau:g}")
    axes.set(xlabel="cosine of rewrite and reference", ylabel="rows")
    axes.legend()
    save(figure, path)


CURVES = (
    ("loss_sft", "SFT loss"),
    ("loss_kl", "KL loss"),
    ("lambda", "lambda"),
    ("ratio_sft_kl", "SFT / (lambda KL)"),
    ("student_mass_in_k", "student mass in top-K"),
    ("rollout_tokens", "rollout length, tokens"),
)


def training_curves(curves: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Losses, balance and rollouts over the optimizer steps, one line a method."""
    figure, grid = new_axes(columns=3, rows=2, size=(4.2, 3))
    styled = styles(curves)
    for axes, (name, title) in zip(grid.flat, CURVES, strict=True):
        for method, points in curves.items():
            known = [(p["step"], p[name]) for p in points if name in p]
            if known:
                style = styled[method]
                axes.plot(*zip(*known, strict=True), style.line, color=style.colour, label=method)
        axes.set(title=title, xlabel="step")
        if name in {"loss_sft", "loss_kl"}:
            axes.set_yscale("log")
        axes.grid(alpha=0.3)
    handles = {
        label: handle
        for axes in grid.flat
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
    save(figure, path)
