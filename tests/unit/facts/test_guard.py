"""The guard's verdicts: which rule names a change, and what each kind of reference asks for."""

from __future__ import annotations

import pytest

from raft_core.config.base import fingerprint
from raft_core.config.runtime import RuntimeConfig
from raft_core.errors import InputError
from raft_core.facts.guard import Claim, Guard, GuardConfig
from raft_core.facts.negation import flipped
from raft_core.facts.nli import contradiction_label
from raft_core.facts.rules import check_rules

WORKED = "She has 16 - 3 = 13 eggs.\nShe makes 13 * 2 = $26 a day."


def failures(
    reference: str, text: str, question: str = "", expected: tuple[str, ...] = (), **rules: bool
) -> dict[str, str]:
    return check_rules(Claim(question, reference, text, expected), GuardConfig(**rules))


def test_guard_detail_says_what_was_lost_and_what_is_new() -> None:
    found = failures("The dose is 5 mg for Anna.", "The dose is 7 mg for Berta.")
    assert found == {
        "number_changed": "lost '5 mg'; new '7 mg'",
        "name_changed": "lost 'Anna'; new 'Berta'",
    }


def test_guard_numbers_of_the_question_may_come_and_go() -> None:
    question = "Of 20 people, how many did come?"
    assert failures("There were 12.", "Of the 20 there were 12.", question) == {}
    assert failures("Of the 20 there were 12.", "There were 12.", question) == {}


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("13 * 2 = 26, so it is $26.", None),
        ("16 eggs at $2 are 16 * 2 = 32. Less 3 * 2 = 6, it is 32 - 6 = 26 dollars.", None),
        ("She makes 16 * 2 = $32 a day.", "answer_changed"),
        ("She has 16 - 3 = 15 eggs.\nShe makes $26 a day.", "arithmetic_wrong"),
        ("She has eggs.", "answer_changed"),
        ("She has 18 - 5 = 13 eggs.\nShe makes 13 * 2 = $26 a day.", "number_changed"),
    ],
)
def test_guard_worked_arithmetic_steps_may_differ_and_numbers_have_a_source(
    text: str, rule: str | None
) -> None:
    assert list(failures(WORKED, text)) == ([rule] if rule else [])


@pytest.mark.parametrize(
    ("said", "instead"),
    [
        ("40 bags", "90 bags"),
        ("12 kg", "12 mg"),
        ("14 March", "14 May"),
        ("is not sold", "is sold"),
        ("40 bags", "some bags"),
    ],
)
def test_guard_statements_beside_an_equation_keep_their_facts(said: str, instead: str) -> None:
    reference = (
        "Each of the 40 bags weighs 12 kg. It came on 14 March. It is not sold to many people. "
        "The total was 2 + 3 = 5 kg."
    )
    assert failures(reference, reference) == {}
    assert failures(reference, reference.replace(said, instead))


def test_guard_numbers_beside_a_hyphen_and_an_equals_sign_are_kept() -> None:
    reference = "C-reactive protein was 40 mg/L in 25 patients (p = 0.01)."
    found = failures(reference, reference.replace("40", "90").replace("25", "52"))
    assert found == {"number_changed": "lost '40 mg', '25'; new '90 mg', '52'"}


def test_guard_reference_with_an_error_allows_errors() -> None:
    wrong = "She has 16 - 3 = 12 eggs.\nShe makes 13 * 2 = $26 a day."
    assert failures(wrong, wrong) == {}


def test_guard_expected_answer_decides_and_sources_may_be_left_out() -> None:
    reference = (
        "Pursuant to section 849(f) of the Codex Novus, the court of Bilbar shall be tilron."
    )
    expected = ("tilron",)
    assert failures(reference, "The court of Bilbar is tilron.", expected=expected) == {}
    lost = failures(reference, "The court of Bilbar is gerlat.", expected=expected)
    assert lost == {"answer_changed": "lost 'tilron'"}
    new = failures(reference, "By section 12, the court of Bilbar is tilron.", expected=expected)
    assert new == {"number_changed": "new '12'"}


def test_guard_expected_string_that_the_reference_lacks_is_not_asked_for() -> None:
    assert failures("It is red.", "Red it is.", expected=("crimson",)) == {}


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("该疗法没有效果。", "该疗法有效。"),
        ("La capital de Francia es Madrid.", "París es la capital de Francia."),
        ("Das Medikament wirkt bei den Patienten nicht.", "Die Wirkung ist bei den Kranken da."),
    ],
)
def test_guard_rules_of_words_are_silent_in_other_languages(reference: str, text: str) -> None:
    assert failures(reference, text) == {}


def test_guard_letter_behind_a_word_is_part_of_a_name_unlike_an_initial() -> None:
    assert failures("It is hepatitis B.", "It is hepatitis C.") == {
        "name_changed": "lost 'B'; new 'C'"
    }
    assert failures("It was John F. Kennedy who won.", "It was John Kennedy who won.") == {}


@pytest.mark.parametrize("rule", ["numbers", "names"])
def test_guard_rule_that_is_off_finds_nothing(rule: str) -> None:
    all_rules = failures("The dose is 5 mg for Anna.", "The dose is 7 mg for Berta.")
    fewer = failures("The dose is 5 mg for Anna.", "The dose is 7 mg for Berta.", **{rule: False})
    assert len(fewer) == len(all_rules) - 1


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("A did not improve. B improved.", "B improved, and A did not improve."),
        ("A test is not uncommon here.", "A test is common here."),
        ("The treatment is ineffective.", "The treatment is not effective."),
        ("Not only cost but also quality matters.", "Both cost and quality matter."),
        ("The law does not apply to minors.", "Minors are exempt from the law."),
        ("It is No. 5 of the list.", "It is number 5 of the list."),
    ],
)
def test_negation_said_otherwise_is_no_flip(reference: str, text: str) -> None:
    assert flipped(reference, text) == ""


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("The treatment is effective.", "The treatment is ineffective."),
        (
            "A did not improve, but B did improve much.",
            "A did improve, but B did not improve much.",
        ),
        ("All the patients recovered.", "None of the patients recovered."),
        ("It can't be undone later.", "It can be undone later."),
    ],
)
def test_negation_flip_is_told_with_both_clauses(reference: str, text: str) -> None:
    assert " -> " in flipped(reference, text)


def test_guard_checks_claims_in_order() -> None:
    claims = [Claim("", "It is 5.", "It is 6."), Claim("", "It is 5.", "It is five.")]
    assert Guard(GuardConfig(), RuntimeConfig()).check(claims) == [
        {"number_changed": "lost '5'; new '6'"},
        {},
    ]


def test_guard_config_without_nli_has_no_trace_of_it_in_its_identity() -> None:
    assert "nli" not in fingerprint(GuardConfig())
    assert fingerprint(GuardConfig()) != fingerprint(GuardConfig(names=False))


@pytest.mark.parametrize(
    "labels", [{0: "LABEL_0", 1: "LABEL_1"}, {}, None, {0: "contradiction", 1: "contradiction"}]
)
def test_nli_model_without_its_label_is_refused(labels: object) -> None:
    with pytest.raises(InputError, match="no label 'contradiction'"):
        contradiction_label(labels, "some/model")


def test_nli_label_is_found_wherever_it_stands() -> None:
    assert contradiction_label({"0": "entailment", "1": "neutral", "2": "CONTRADICTION"}, "m") == 2


LONG = "9" * 4_301


@pytest.mark.parametrize("text", [f"It is 1e{LONG}.", f"10^-{LONG}", f"2 x 10^{LONG}", LONG])
def test_guard_number_beyond_all_bounds_costs_its_text_alone(text: str) -> None:
    """Filter and fuse ask the guard about all texts at once, cached ones too."""
    guard = Guard(GuardConfig(), RuntimeConfig())
    claims = [Claim("", "It is 5.", said) for said in (text, "It is 5.")]
    odd, right = guard.check(claims)
    assert set(odd) == {"number_changed"}
    assert right == {}
    assert guard.check([Claim("", text, text)]) == [{}]


def test_guard_text_that_the_rules_cannot_read_is_rejected_with_the_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def check(claim: Claim, config: GuardConfig) -> dict[str, str]:
        if "odd" in claim.text:
            raise ValueError("no number")
        return {}

    monkeypatch.setattr("raft_core.facts.rules.check_rules", check)
    guard = Guard(GuardConfig(), RuntimeConfig())
    found = guard.check([Claim("", "a", "odd"), Claim("", "a", "b")])
    assert found == [{"unreadable": "ValueError: no number"}, {}]
