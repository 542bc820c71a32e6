"""Whether an answer follows a verifiable instruction, decided by code as IFEval does it.

Ids and argument names are IFEval's; `mini:` ids are the mini world's own. An empty answer
follows nothing. It does not know the question, nor whether the answer is true.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Sequence
from typing import Any


def is_english_capital(response: str) -> bool:
    return response.isupper()


def is_english_lowercase(response: str) -> bool:
    return response.islower()


def ends_with(response: str, end_phrase: str) -> bool:
    return response.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def is_quoted(response: str) -> bool:
    stripped = response.strip()
    return len(stripped) > 1 and stripped[0] == stripped[-1] == '"'


def is_json(response: str) -> bool:
    """JSON, bare or in a Markdown fence."""
    fenced = re.fullmatch(r"```(?:json)?\s*(.*?)\s*```", response.strip(), re.DOTALL | re.I)
    try:
        json.loads(fenced[1] if fenced else response)
    except ValueError:
        return False
    return True


def has_no_comma(response: str) -> bool:
    return "," not in response


def has_keywords(response: str, keywords: Sequence[str]) -> bool:
    return all(re.search(re.escape(word), response, re.IGNORECASE) for word in keywords)


def has_bullets(response: str, num_bullets: int) -> bool:
    stars = re.findall(r"^\s*\*[^*].*$", response, re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", response, re.MULTILINE)
    return len(stars) + len(dashes) == num_bullets


def repeats_prompt(response: str, prompt_to_repeat: str) -> bool:
    return response.strip().lower().startswith(prompt_to_repeat.strip().lower())


def has_postscript(response: str, postscript_marker: str) -> bool:
    """IFEval lets the dots of `P.S.` and `P.P.S` be spaced."""
    patterns = {"P.P.S": r"\s*p\.\s?p\.\s?s.*$", "P.S.": r"\s*p\.\s?s\..*$"}
    plain = rf"\s*{re.escape(postscript_marker.lower())}.*$"
    pattern = patterns.get(postscript_marker, plain)
    return re.search(pattern, response.lower(), re.MULTILINE) is not None


def starts_with_word(response: str, first_word: str) -> bool:
    words = re.findall(r"\w+", response.lower())
    return words[:1] == [first_word.lower()]


def is_one_word(response: str) -> bool:
    return len(response.split()) == 1


CHECKS: dict[str, Callable[..., bool]] = {
    "change_case:english_capital": is_english_capital,
    "change_case:english_lowercase": is_english_lowercase,
    "combination:repeat_prompt": repeats_prompt,
    "detectable_content:postscript": has_postscript,
    "detectable_format:json_format": is_json,
    "detectable_format:number_bullet_lists": has_bullets,
    "keywords:existence": has_keywords,
    "mini:first_word": starts_with_word,
    "mini:one_word": is_one_word,
    "punctuation:no_comma": has_no_comma,
    "startend:end_checker": ends_with,
    "startend:quotation": is_quoted,
}


def argument_problem(instruction_id: str, kwargs: dict[str, Any]) -> str:
    """What is wrong with an instruction's arguments, or an empty string."""
    try:
        inspect.signature(CHECKS[instruction_id]).bind("", **kwargs)
    except TypeError as error:
        return f"'{instruction_id}': {error}"
    return ""


def check_instruction(instruction_id: str, response: str, **kwargs: Any) -> bool:
    """Whether `response` follows the instruction; arguments that are None count as absent.

    Raises:
        ValueError: no checker has this id.
    """
    check = CHECKS.get(instruction_id)
    if check is None:
        known = ", ".join(sorted(CHECKS))
        raise ValueError(f"no checker for instruction '{instruction_id}'; known are {known}")
    given = {name: value for name, value in kwargs.items() if value is not None}
    return bool(response.strip()) and check(response, **given)
