"""Equations by hand: what is one, what holds, and what is left alone."""

from __future__ import annotations

import pytest

from raft_core.facts.conclusion import choice, conclusion
from raft_core.facts.equations import equations, is_derivation, prose, results


@pytest.mark.parametrize(
    "text",
    [
        "16 - 3 - 4 = 9",
        "9 * 2 = $18 every day",
        "4 horses x 5 pounds = 20 pounds of oats",
        "9 plus 9 plus 3 equals 21",
        "14 divided by 2 is equal to 7",
        "( 48 - 8 ) + 40 = 80 passengers",
        "3 * (16.50 + 22.50 + 42) = $243",
        "240*40/100 = 96",
        "50% * 50% = 25%",
        "100% - 40% = 60%",
        "20% of 50 = 10",
        "4(40) - 13 = 147",
        "10 / 3 = 3.33",
        "11 / 4 = 2",  # rounded down
        "600 / 2 + 100 = 400",
        "2 × 3 = 6",
        "60 minutes/hour * 2 hours = 120 minutes",
        "5 + 5 = 10 + 3 = 13",  # runs on
    ],
)
def test_equation_that_holds(text: str) -> None:
    found = equations(text)
    assert found
    assert all(equation.holds for equation in found)
    assert is_derivation(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("4 + 3 + 4 = 27 bags", "4 + 3 + 4 = 27"),
        ("It takes 5-3=2.5 minutes", "5 - 3 = 2.5"),
        ("2 x 2 = 5", "2 * 2 = 5"),
        ("10 / 3 = 3.5", "10 / 3 = 3.5"),
        ("1 / 0 = 5", "1 / 0 = 5"),
    ],
)
def test_equation_that_does_not_hold(text: str, shown: str) -> None:
    assert [(e.text, e.holds) for e in equations(text)] == [(shown, False)]


@pytest.mark.parametrize(
    "text",
    [
        "n = 20",
        "x + 3 = 8",
        "4x - 13 = 147",
        "1 hour = 60 minutes",
        "P = 0.03 (95% CI 1.2-1.9)",
        "((((",
        "= = 3 + = 4",
        "There are 24 eggs in 1 tray x 2 trays = 48 eggs",  # 1 x 2 or 24 x 1 x 2
    ],
)
def test_equation_there_is_none_to_judge(text: str) -> None:
    assert [e for e in equations(text) if not e.holds] == []


def test_derivation_prose_with_numbers_is_none() -> None:
    assert not is_derivation("The mean was 5.2 (SD = 1.1) in 2003-2012; P = 0.03.")
    assert is_derivation("(x+7)*5 = (x+25)*3\nx = 20")
    assert is_derivation("4x - 13 = 147, so x = 40.")
    assert is_derivation("3 + y = 8, hence 2y = 10 and y = 5.")


@pytest.mark.parametrize(
    "text",
    [
        "C-reactive protein was 40 mg/L in 25 patients (p = 0.01).",
        "A T-cell count below 200 (n = 31) meant treatment.",
        "The p-value = 0.03 for 120 patients, so p = 0.03.",
        "Vitamin D - given as 800 IU for 12 weeks, dose = 800 IU.",
        "Set it with curl -m 30 https://x.y/?page=2&size=50.",
        "x = a + 1",
        "With `a = 5` set `x = a + 1`.",
        "```\na = 5\nx = a + 1\n```",
    ],
)
def test_derivation_hyphens_options_and_code_are_none(text: str) -> None:
    assert not is_derivation(text)


def test_results_of_operations_and_solved_variables() -> None:
    assert results("n = 31. She has 16 - 3 = 13 eggs, 13 * 2 = $26.").split() == ["13", "26"]
    assert results("4x - 13 = 147, so 4x = 160 and x = 40.").split() == ["160", "40"]


def test_prose_has_the_statements_that_work_nothing_out() -> None:
    text = "It has 40 bags. So 2 + 3 = 5 kg. Each costs $7 (n = 31)."
    assert prose(text) == "It has 40 bags.\nEach costs $7 (n = 31)."


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("It is 5 + 3 = 8.\nSo 8 * 2 = $16 a day.", [16]),
        ("First 20.\nSo she has 12 apples left.\nGood!", [12]),
        ("We get \\boxed{42}, not 3 + 4 = 7.", [42]),
        ("Result: 1,000", [1000]),
        ("Nothing here", []),
    ],
)
def test_conclusion_last_statement_with_a_number(text: str, values: list[float]) -> None:
    assert [number.value for number in conclusion(text)] == values


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("So the answer is (B).", "B"),
        ("Answer: c", "C"),
        ("Yes, it does.", "yes"),
        ("No. It does not.", "no"),
        ("No patient died.", ""),
        ("The answer is a matter of taste.", ""),
    ],
)
def test_choice_option_or_yes_or_no(text: str, chosen: str) -> None:
    assert choice(text) == chosen
