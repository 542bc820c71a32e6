"""The document of the benchmarks: sections between marks, and the summary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import CASES, ROOT
from benchmarks.document import cases_of, summary, update, with_section
from benchmarks.measuring import CaseResult, Ratio, Spread, paired, table

DOCUMENT = (
    "# Title\n<!-- measured: summary -->\nold\n<!-- end: summary -->\nby hand\n"
    "<!-- measured: loss -->\nold\n<!-- end: loss -->\nthe end\n"
)


def result(tmp_path: Path, *ratios: Ratio) -> dict[str, Any]:
    file = tmp_path / "loss.json"
    CaseResult("loss", ratios, "a table", 12.3).write(file)
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_paired_ratio_median_and_extremes_by_hand() -> None:
    assert paired([2.0, 3.0, 8.0], [1.0, 2.0, 2.0]) == Spread(2.0, 1.5, 4.0, 3)
    assert paired([2.0, 3.0, 8.0], [1.0, 2.0, 2.0]).text() == "2.00 [1.50, 4.00]"


@pytest.mark.parametrize(
    ("goal", "reached"), [(">= 2", True), (">= 2.1", False), ("<= 2", True), ("<= 1.9", False)]
)
def test_ratio_goal_by_the_median(goal: str, reached: bool) -> None:
    assert Ratio("speed", Spread(2.0, 1.0, 5.0, 3), goal).reached is reached


def test_update_writes_between_the_marks_alone(tmp_path: Path) -> None:
    file = tmp_path / "document.md"
    file.write_text(DOCUMENT)
    found = result(tmp_path, Ratio("speed", Spread(2.0, 1.5, 4.0, 3), ">= 2"))
    update(file, [found])
    text = file.read_text()
    assert "old" not in text
    assert "by hand" in text
    assert text.endswith("the end\n")
    assert "| speed | 2.00 [1.50, 4.00] | 3 | >= 2 | yes |" in text
    update(file, [found])
    assert file.read_text() == text


def test_with_section_document_without_marks_value_error() -> None:
    with pytest.raises(ValueError, match="measured: other"):
        with_section(DOCUMENT, "other", "text")


def test_summary_goal_not_reached_says_no(tmp_path: Path) -> None:
    found = result(
        tmp_path,
        Ratio("speed", Spread(0.05, 0.01, 4.0, 3), ">= 2"),
        Ratio("size", Spread(1, 1, 1, 1)),
    )
    lines = summary([found]).splitlines()
    assert lines[2] == "| speed | 0.050 [0.010, 4.000] | 3 | >= 2 | no |"
    assert lines[3].endswith("|  |  |")


def test_table_first_column_text_others_figures() -> None:
    assert table(["a", "b"], [["x", 1]]) == "| a | b |\n| --- | ---: |\n| x | 1 |"


def test_benchmarks_document_has_a_place_for_every_case() -> None:
    assert set(cases_of((ROOT / "docs" / "benchmarks.md").read_text())) == set(CASES)
