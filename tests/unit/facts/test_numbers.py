"""What counts as the same number, whatever it is written like, and what does not."""

from __future__ import annotations

from datetime import date

import pytest

from raft_core.facts.dates import dates
from raft_core.facts.numbers import missing, numbers, turned_around


def same(one: str, other: str) -> bool:
    ours, theirs = numbers(one), numbers(other)
    return not missing(ours, theirs) and not missing(theirs, ours)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("$1,000", "1000 dollars"),
        ("1000", "1,000.00"),
        ("1 000 000 people", "1,000,000 people"),
        ("a million people", "1,000,000 people"),
        ("5.2 million", "5,200,000"),
        ("10k rows", "10,000 rows"),
        ("50%", "50 percent"),
        ("fifty per cent", "50 %"),
        (".5", "0.50"),
        ("½ litre", "0.5 litre"),
        ("two dogs", "2 dogs"),
        ("two hundred and fifty", "250"),
        ("twenty-one days", "21 days"),
        ("twice as many", "2 times as many"),
        ("a 3-fold rise", "a threefold rise"),
        ("the 3rd man", "the third man"),
        ("2/3 of them", "two thirds of them"),
        ("20% of them", "one fifth of them"),
        ("5%", "0.05"),
        ("1.5 x 10^-3", "1.5×10⁻³"),
        ("1.5e-3", "0.0015"),
        ("10(-3) mol", "10⁻³ mol"),
        ("500 mg", "0.5 g"),
        ("90 minutes", "1.5 hours"),
        ("12 km", "12,000 m"),
        ("5 and 10 km", "5 km and 10 km"),
        ("15 to 18 billion", "15 billion to 18 billion"),
        ("minus 40 °C", "-40 degrees Celsius"),
        ("P = 0.03", "p=.03"),
        ("4 July 1776", "07/04/1776"),
        ("12 March 2020", "2020-03-12"),
        ("Sept. 3, 2001", "3rd of September 2001"),
        ("2020年3月12日", "12 March 2020"),
        ("15. Mai 2024", "15.05.2024"),
        ("le 1er mai 2020", "1 May 2020"),
        ("5 de mayo de 2020", "May 5, 2020"),
        ("03/12/2020", "12.03.2020"),
        ("May 5-7, 2020", "5 to 7 May 2020"),
        ("May 12 and 14 June", "12 May and 14 June"),
        ("in March 1987", "in march 1987"),
        ("in March 1500 people died", "1500 people died in March"),
        ("on 14 May", "ON 14 MAY"),
        ("20 may benefit", "20 could benefit"),
        ("It was in May. 20 came.", "20 came in May."),
        ("There were 5. April was cold.", "April was cold. There were 5."),
        ("3 Mars missions", "three missions to Mars"),
        ("１２０名", "120名"),
        ("百分之五十", "50%"),
        ("5万人", "50,000人"),
        ("zwei von 10", "2 von zehn"),
        ("25±3 kg/m²", "25 ± 3 kg/m2"),
        ("Take:\n- 5 mg\n- 10 mg", "Take 5 mg and 10 mg"),
        ("5 mm - 10 mm", "5 to 10 mm"),
        ("19 Prozent", "19 %"),
        ("el 5 por ciento", "5 pour cent"),
        ("1.250 Euro", "1250 Euro"),
        ("1.250,50 €", "1250.50 Euro"),
        ("CHF 1'250.50", "CHF 1,250.50"),
        ("1,25 Millionen Euro", "1.250.000 Euro"),
        ("₹5 crore", "50 million rupees"),
        ("9:30 a.m.", "9.30 am"),
        ("version 1.2.3", "v1.2.3"),
        ("12.5亿元", "十二点五亿元"),
        ("第十二条", "第12条"),
    ],
)
def test_number_other_spelling_is_the_same(one: str, other: str) -> None:
    assert same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("12 km", "12 m"),
        ("$5", "€5"),
        ("50%", "50"),
        ("50%", "0.5%"),
        ("-5 °C", "5 °C"),
        ("1,000", "1,00"),
        ("two dogs", "three dogs"),
        ("the third man", "the fourth man"),
        ("4 July 1776", "5 July 1776"),
        ("4 July 1776", "4 July 1767"),
        ("14 March 1987", "14 May 1987"),
        ("on 14 March. He left", "on 14 May. He left"),
        ("2024-03-05", "2024-09-05"),
        ("3/5/2024", "5/3/2024"),
        ("15. Mai 2024", "15. März 2024"),
        ("in March 1987 it may rise", "in May 1987 it may rise"),
        ("3 May and 14 June", "14 May and 3 June"),
        ("14 March 1987", "March 1987"),
        ("12/30 patients", "13/30 patients"),
        ("1.5 x 10^-3", "1.5 x 10^-4"),
        ("5 mg", "a dose"),
        ("5 million", "5 billion"),
        ("3 months", "3 years"),
        ("one single month", "1 year"),
        ("120名", "130名"),
        ("三百二十人", "二百三十人"),
        ("第十二条", "第十三条"),
        ("1.250,50 €", "1.250,80 €"),
        ("1.250.000 Euro", "1.250 Euro"),
        ("1'250.50", "1'520.50"),
        ("version 1.2.3", "version 1.2.4"),
        ("10.0.0.1", "10.0.0.2"),
        ("9:30 a.m.", "9:30 p.m."),
        ("₹5 crore", "₹5 lakh"),
        ("₹5 crore", "$5 crore"),
    ],
)
def test_number_other_value_or_unit_is_not(one: str, other: str) -> None:
    assert not same(one, other)


@pytest.mark.parametrize(
    "text",
    [
        "one of the best",
        "no one",
        "at first",
        "the second half",
        "T4 and user721",
        "HIF1A",
        "十分重要",
        "千万不要",
        "一个",
    ],
)
def test_number_pronouns_order_and_names_need_no_counterpart(text: str) -> None:
    assert missing(numbers(text), ()) == []


def test_missing_a_number_is_named_once_as_it_was_written() -> None:
    lost = missing(numbers("It is 1,000 m, or 1 km, and 7."), numbers("7"))
    assert [number.text for number in lost] == ["1,000 m"]


@pytest.mark.parametrize(
    ("one", "other", "turned"),
    [
        ("a ratio of 2:1", "1 to 2", ["2:1"]),
        ("from 5 to 10", "from 10 down to 5", ["5 to 10"]),
        ("120/80", "80/120", ["120/80"]),
        ("2 to 1", "2:1", []),
        ("from 5 to 5", "5-5", []),
    ],
)
def test_turned_around_pairs_in_the_other_order(one: str, other: str, turned: list[str]) -> None:
    assert turned_around(one, other) == turned


def test_dates_every_swap_of_months_is_seen() -> None:
    texts = [f"The act was passed on 14 {date(2000, month, 1):%B} 1987." for month in range(1, 13)]
    assert [(a, b) for a in texts for b in texts if a != b and same(a, b)] == []


def test_dates_slashes_have_both_readings_where_both_are_dates() -> None:
    found = dates("03/04/2020 and 13/04/2020 and 03.04.2020")
    assert [each.days for each in found] == [(304, 403), (413,), (403,)]


@pytest.mark.parametrize(
    "text", ["9" * 400, "1/0", "1e999999", "٣ and ²", ".", "1,,2", "½½", "-" * 50]
)
def test_number_nonsense_is_read_without_failing(text: str) -> None:
    numbers(text)
