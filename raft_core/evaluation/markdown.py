"""Markdown for tables: lines, and how figures are written. The report and the study share it."""

from __future__ import annotations

from collections.abc import Sequence

from raft_core.evaluation.metrics import Estimate

SMALLEST_P = 1e-4


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """The lines of a table; all columns after the first `left` are aligned right."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return [table_line(each) for each in (head, rule, *rows)]


def table_line(cells: Sequence[str]) -> str:
    """One line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def estimate(figure: Estimate | None) -> str:
    """`0.936 [0.90, 0.96]`, empty where there is none."""
    if figure is None:
        return ""
    return f"{figure.value:.3f} [{figure.low:.2f}, {figure.high:.2f}]"


def signed(figure: Estimate | None) -> str:
    """`+0.120 [+0.051, +0.189]*`; the star says that the interval excludes 0."""
    if figure is None:
        return ""
    star = "*" if figure.low > 0 or figure.high < 0 else ""
    return f"{figure.value:+.3f} [{figure.low:+.3f}, {figure.high:+.3f}]{star}"


def percent(figure: Estimate | None) -> str:
    """`+23.2% [+18.0%, +28.1%]*`, `undefined` where the baseline has nothing right."""
    if figure is None:
        return "undefined"
    star = "*" if figure.low > 0 or figure.high < 0 else ""
    return f"{figure.value:+.1%} [{figure.low:+.1%}, {figure.high:+.1%}]{star}"


def p_value(p: float) -> str:
    return f"<{SMALLEST_P:g}" if p < SMALLEST_P else f"{p:.2g}"


def rate(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}"


def plain(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def bold(text: str) -> str:
    return f"**{text}**"
