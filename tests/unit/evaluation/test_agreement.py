"""Fleiss' kappa and Krippendorff's alpha against their authors' examples, by hand, undefined."""

from __future__ import annotations

import random

import pytest

from raft_core.data.records import Verdict, Vote
from raft_core.evaluation.agreement import fleiss_kappa, krippendorff_alpha, panel_agreement

# Fleiss (1971), table 1: 30 patients, six psychiatrists, five diagnoses; how many chose each.
FLEISS_1971 = [
    (0, 0, 0, 6, 0), (0, 3, 0, 0, 3), (0, 1, 4, 0, 1), (0, 0, 0, 0, 6), (0, 3, 0, 3, 0),
    (2, 0, 4, 0, 0), (0, 0, 4, 0, 2), (2, 0, 3, 1, 0), (2, 0, 0, 4, 0), (0, 0, 0, 0, 6),
    (1, 0, 0, 5, 0), (1, 1, 0, 4, 0), (0, 3, 3, 0, 0), (1, 0, 0, 5, 0), (0, 2, 0, 3, 1),
    (0, 0, 5, 0, 1), (3, 0, 0, 1, 2), (5, 1, 0, 0, 0), (0, 2, 0, 4, 0), (1, 0, 2, 0, 3),
    (0, 0, 0, 0, 6), (0, 1, 0, 5, 0), (0, 2, 0, 1, 3), (2, 0, 0, 4, 0), (1, 0, 0, 4, 1),
    (0, 5, 0, 1, 0), (4, 0, 0, 0, 2), (0, 2, 0, 4, 0), (1, 0, 5, 0, 0), (0, 0, 0, 0, 6),
]  # fmt: skip
# Krippendorff (2011), example C: four observers, twelve units, missing values.
KRIPPENDORFF_2011 = [
    "1.11", "2232", "3333", "3333", "2222", "1234", "4444", "1121", "2222", ".555", "..11", "..3.",
]  # fmt: skip


def rated(counts: tuple[int, ...]) -> list[int]:
    return [category for category, count in enumerate(counts) for _ in range(count)]


def units(rows: list[str]) -> list[list[str | None]]:
    return [[None if value == "." else value for value in row] for row in rows]


def votes(*verdicts: Verdict) -> list[Vote]:
    return [Vote(f"j{n}", verdict) for n, verdict in enumerate(verdicts)]


def test_kappa_published_table_of_fleiss() -> None:
    # P = 0.5556, Pe = 0.144^2 + 0.144^2 + 0.167^2 + 0.306^2 + 0.239^2 = 0.2199
    # (0.5556 - 0.2199) / (1 - 0.2199) = 0.430
    assert fleiss_kappa([rated(row) for row in FLEISS_1971]) == pytest.approx(0.430, abs=5e-4)


def test_kappa_by_hand() -> None:
    # Agreeing pairs: (1, 1/3, 1/3, 1), mean 2/3. Shares 6/12 each: Pe = 1/2. (2/3 - 1/2) / (1/2)
    assert fleiss_kappa(["aaa", "aab", "abb", "bbb"]) == pytest.approx(1 / 3)


def test_alpha_published_example_of_krippendorff_with_missing_values() -> None:
    # 40 pairable values; 1: 9, 2: 13, 3: 10, 4: 5, 5: 3. The last unit has a single value.
    # De = (40^2 - 9^2 - 13^2 - 10^2 - 5^2 - 3^2) / (40 * 39) = 1216 / 1560 = 0.779
    # Do = (6 / 3 + 12 / 3 + 6 / 3) / 40 = 0.2 (units 2, 6 and 8)
    # 1 - 0.2 / 0.7795 = 0.743
    assert krippendorff_alpha(units(KRIPPENDORFF_2011)) == pytest.approx(0.743, abs=5e-4)


def test_alpha_published_example_of_krippendorff_without_missing_values() -> None:
    # Krippendorff (2011), example A: two observers, ten binary units, four of them disagreed on:
    # Do = 8 / 20, De = (20^2 - 14^2 - 6^2) / (20 * 19) = 168 / 380; 1 - 0.4 / 0.4421 = 0.095
    meg, owen = "0100000010", "1110010000"
    assert krippendorff_alpha(list(zip(meg, owen, strict=True))) == pytest.approx(0.095, abs=5e-4)


def test_agreement_order_of_judges_and_answers_and_names_of_categories_change_nothing() -> None:
    rows = units(KRIPPENDORFF_2011)
    full = [rated(row) for row in FLEISS_1971]
    draw = random.Random(0)
    shuffled = [draw.sample(row, len(row)) for row in draw.sample(rows, len(rows))]
    renamed = [[None if v is None else f"x{9 - int(v)}" for v in row] for row in rows]
    for other in (shuffled, renamed):
        assert krippendorff_alpha(other) == pytest.approx(krippendorff_alpha(rows))
    shuffled_full = [draw.sample(row, len(row)) for row in draw.sample(full, len(full))]
    renamed_full = [[9 - value for value in row] for row in full]
    for other_full in (shuffled_full, renamed_full):
        assert fleiss_kappa(other_full) == pytest.approx(fleiss_kappa(full))


def test_alpha_of_many_complete_answers_is_near_kappa() -> None:
    # They differ by a correction for small samples alone: 1 - alpha = (1 - kappa) (1 - 1 / n).
    full = [rated(row) for row in FLEISS_1971]
    kappa, alpha = fleiss_kappa(full), krippendorff_alpha(full)
    assert kappa is not None
    assert alpha == pytest.approx(1 - (1 - kappa) * (1 - 1 / 180))


def test_agreement_perfect_one_and_systematic_disagreement_below_zero() -> None:
    assert fleiss_kappa(["aa", "bb"]) == krippendorff_alpha(["aa", "bb"]) == 1.0
    # No pair agrees, half of all would by chance: (0 - 1/2) / (1 - 1/2)
    assert fleiss_kappa(["ab", "ba"]) == pytest.approx(-1.0)


@pytest.mark.parametrize("ratings", [["a", "b"], ["aa", "aa"]], ids=["one judge", "one verdict"])
def test_agreement_undefined_none(ratings: list[str]) -> None:
    assert fleiss_kappa(ratings) is None
    assert krippendorff_alpha(ratings) is None


def test_alpha_no_answer_with_two_values_none() -> None:
    assert krippendorff_alpha(units(["1..", "..2", "..."])) is None


@pytest.mark.parametrize("ratings", [[], ["aa", "a"]])
def test_kappa_no_answers_or_ragged_error(ratings: list[str]) -> None:
    with pytest.raises(ValueError, match="the same number"):
        fleiss_kappa(ratings)


def test_panel_agreement_cannot_tell_is_a_category_for_kappa_and_missing_for_alpha() -> None:
    answers = [
        votes("correct", "correct", "cannot_tell"),
        votes("incorrect", "incorrect", "cannot_tell"),
        votes("correct", "correct", "correct"),
        votes("cannot_tell", "cannot_tell", "cannot_tell"),
    ]
    agreed = panel_agreement(answers)
    # Given verdicts never differ. Pairs agree in 1/3, 1/3, 1, 1; shares 5/12, 2/12, 5/12.
    assert agreed["alpha"] == 1.0
    assert agreed["kappa"] == pytest.approx((2 / 3 - 54 / 144) / (1 - 54 / 144))
    assert agreed["unanimous"] == 0.5
    assert [judge["judge"] for judge in agreed["judges"]] == ["j0", "j1", "j2"]
    assert [judge["correct"] for judge in agreed["judges"]] == [0.5, 0.5, 0.25]
    assert agreed["judges"][2]["cannot_tell"] == 0.75
