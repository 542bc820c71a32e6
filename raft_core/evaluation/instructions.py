"""Whether an answer follows a verifiable instruction, decided by code as IFEval does it.

The 25 instructions of IFEval (Zhou et al. 2023, arXiv:2311.07911) are checked by
lm-evaluation-harness (`ifeval_library.py`); `mini:` ids are the mini world's own, whose words are
of no language that a detector knows. An empty answer follows nothing. Nothing here knows whether
an answer is true.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

RELATIONS = ("less than", "at least")


def is_upper_case(response: str) -> bool:
    return response.isupper()


def is_lower_case(response: str) -> bool:
    return response.islower()


def starts_with_word(response: str, first_word: str) -> bool:
    words = re.findall(r"\w+", response.lower())
    return words[:1] == [first_word.lower()]


def is_one_word(response: str) -> bool:
    return len(response.split()) == 1


MINI_CHECKS: dict[str, Callable[..., bool]] = {
    "mini:first_word": starts_with_word,
    "mini:lower_case": is_lower_case,
    "mini:one_word": is_one_word,
    "mini:upper_case": is_upper_case,
}


@dataclass(frozen=True, slots=True)
class Argument:
    """What an instruction's argument must be."""

    says: str
    allows: Callable[[Any], bool]


def _is_pattern(text: Any) -> bool:
    """The harness searches for keywords as regular expressions."""
    try:
        re.compile(text)
    except (re.error, TypeError, OverflowError, RecursionError):
        return False
    return isinstance(text, str) and bool(text)


COUNT = Argument("a whole number above 0", lambda v: type(v) is int and v > 0)
TEXT = Argument("a text", lambda v: isinstance(v, str) and bool(v.strip()))
PATTERN = Argument("a text that is a regular expression", _is_pattern)
PATTERNS = Argument(
    "a list of texts that are regular expressions",
    lambda v: isinstance(v, list) and bool(v) and all(map(_is_pattern, v)),
)
LETTER = Argument("one letter", lambda v: isinstance(v, str) and len(v) == 1)
RELATION = Argument(f"one of {RELATIONS}", lambda v: v in RELATIONS)

ARGUMENTS: dict[str, dict[str, Argument]] = {
    "change_case:capital_word_frequency": {
        "capital_frequency": COUNT,
        "capital_relation": RELATION,
    },
    "change_case:english_capital": {},
    "change_case:english_lowercase": {},
    "combination:repeat_prompt": {"prompt_to_repeat": TEXT},
    "combination:two_responses": {},
    "detectable_content:number_placeholders": {"num_placeholders": COUNT},
    "detectable_content:postscript": {"postscript_marker": TEXT},
    "detectable_format:constrained_response": {},
    "detectable_format:json_format": {},
    "detectable_format:multiple_sections": {"num_sections": COUNT, "section_spliter": PATTERN},
    "detectable_format:number_bullet_lists": {"num_bullets": COUNT},
    "detectable_format:number_highlighted_sections": {"num_highlights": COUNT},
    "detectable_format:title": {},
    "keywords:existence": {"keywords": PATTERNS},
    "keywords:forbidden_words": {"forbidden_words": PATTERNS},
    "keywords:frequency": {"frequency": COUNT, "keyword": PATTERN, "relation": RELATION},
    "keywords:letter_frequency": {
        "let_frequency": COUNT,
        "let_relation": RELATION,
        "letter": LETTER,
    },
    "language:response_language": {"language": TEXT},
    "length_constraints:nth_paragraph_first_word": {
        "first_word": TEXT,
        "nth_paragraph": COUNT,
        "num_paragraphs": COUNT,
    },
    "length_constraints:number_paragraphs": {"num_paragraphs": COUNT},
    "length_constraints:number_sentences": {"num_sentences": COUNT, "relation": RELATION},
    "length_constraints:number_words": {"num_words": COUNT, "relation": RELATION},
    "mini:first_word": {"first_word": TEXT},
    "mini:lower_case": {},
    "mini:one_word": {},
    "mini:upper_case": {},
    "punctuation:no_comma": {},
    "startend:end_checker": {"end_phrase": TEXT},
    "startend:quotation": {},
}


def argument_problem(instruction_id: str, kwargs: dict[str, Any]) -> str:
    """What is wrong with an instruction's arguments, or an empty string.

    A missing one is an error: the harness would draw its value at random.
    """
    wanted = ARGUMENTS[instruction_id]
    if kwargs.keys() != wanted.keys():
        needs = ", ".join(sorted(wanted)) or "no arguments"
        has = ", ".join(sorted(kwargs)) or "none"
        return f"'{instruction_id}' takes {needs}, and has {has}"
    for name, argument in wanted.items():
        if not argument.allows(kwargs[name]):
            return f"'{instruction_id}': '{name}' is {kwargs[name]!r}, not {argument.says}"
    return ""


def check_instruction(
    instruction_id: str,
    response: str,
    kwargs: dict[str, Any],
    prompt: str = "",
    *,
    loose: bool = False,
) -> bool:
    """Whether `response` to `prompt` follows the instruction; arguments that are None are absent.

    Loose as IFEval has it: it also follows if it does so without its first or its last line, or
    without asterisks. The mini world's own rules are always strict.

    Raises:
        ValueError: no checker has this id.
    """
    if instruction_id not in ARGUMENTS:
        known = ", ".join(ARGUMENTS)
        raise ValueError(f"no checker for instruction '{instruction_id}'; known are {known}")
    given = {name: value for name, value in kwargs.items() if value is not None}
    if not response.strip():
        return False
    if own := MINI_CHECKS.get(instruction_id):
        return own(response, **given)
    from raft_core.evaluation.ifeval_library import follows

    return follows(instruction_id, given, prompt, response, loose=loose)


def split_sentences_by(how: str) -> None:
    """Choose what splits sentences and words for the instructions that count them.

    Raises:
        InputError: nltk's model `punkt_tab` is chosen and not installed.
    """
    from raft_core.evaluation.ifeval_library import split_by

    split_by(how)
