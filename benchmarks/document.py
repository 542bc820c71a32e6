"""Write `docs/benchmarks.md`: a summary of all ratios, and a section for each case.

The text between a case's two marks is written by its last run; the rest of the document is written
by hand and stays. A case that did not run keeps its section and its lines of the summary.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring import Ratio, Spread, table

SUMMARY = "summary"


def marks(name: str) -> tuple[str, str]:
    return f"<!-- measured: {name} -->", f"<!-- end: {name} -->"


def with_section(document: str, name: str, text: str) -> str:
    """Return the document with a new section between the marks of `name`.

    Raises:
        ValueError: the document lacks the marks.
    """
    start, end = marks(name)
    if document.count(start) != 1 or document.count(end) != 1:
        raise ValueError(f"the document needs '{start}' and '{end}' once each")
    before, rest = document.split(start)
    after = rest.split(end)[1]
    return f"{before}{start}\n{text.strip()}\n{end}{after}"


def ratio_of(values: Mapping[str, Any]) -> Ratio:
    return Ratio(values["name"], Spread(**values["spread"]), values["goal"])


def summary(results: Sequence[Mapping[str, Any]]) -> str:
    """Return all ratios of all cases in one table, with the goal and whether it is reached."""
    words = {True: "yes", False: "no", None: ""}
    lines = []
    for result in results:
        for ratio in map(ratio_of, result["ratios"]):
            spread = ratio.spread
            digits = 2 if spread.median >= 0.2 else 3
            lines.append(
                [
                    ratio.name,
                    spread.text(digits),
                    spread.runs,
                    ratio.goal or "",
                    words[ratio.reached],
                ]
            )
    return table(["figure", "median [lowest, highest]", "runs", "goal", "reached"], lines)


def section(result: Mapping[str, Any]) -> str:
    """Return a case's text with where and how long it ran; a GPU's says where by itself."""
    place = "" if result["case"] == "gpu" else f"{result['machine']}; "
    return f"{result['markdown'].strip()}\n\n*{place}{result['seconds']:,.0f} s.*"


def update(file: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Write the sections of these cases and the summary of all of them."""
    document = file.read_text()
    for result in results:
        document = with_section(document, result["case"], section(result))
    file.write_text(with_section(document, SUMMARY, summary(results)))


def read_results(folder: Path, cases: Sequence[str]) -> list[dict[str, Any]]:
    """Return what the cases have left in the folder, in their order."""
    files = [folder / f"{case}.json" for case in cases]
    return [json.loads(file.read_text()) for file in files if file.exists()]


def cases_of(document: str) -> list[str]:
    """Return the names that have marks in the document, without the summary."""
    return [name for name in re.findall(r"<!-- measured: (\S+) -->", document) if name != SUMMARY]
