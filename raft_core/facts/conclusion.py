"""Find what a text concludes: the result in its last statement that has a number."""

from __future__ import annotations

import re
from collections.abc import Sequence

from raft_core.facts.numbers import Number, numbers, same_number
from raft_core.facts.text import plain, statements

_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_EQUALS = re.compile(r"=|\b(?:equals?|(?:is|are) equal to)\b", re.I)
_CHOICE = re.compile(
    r"\b[Aa]nswer\b(?:\s+is)?\s*[:=]?\s*(?:option\s*)?\(?([A-Ha-h])\)?(?![\w'])(?!\s+\w)"
)


def conclusion(text: str) -> tuple[Number, ...]:
    """Return the numbers that a text ends on.

    These are a boxed answer's, or those of its last statement with a number: what follows the last
    equals sign, or else all of them.
    """
    text = plain(text)
    if boxed := _BOXED.findall(text):
        return tuple(n for n in numbers(boxed[-1]) if n.firm)
    for statement in reversed(statements(text)):
        found = [n for n in numbers(statement) if n.firm]
        if not found:
            continue
        signs = [match.end() for match in _EQUALS.finditer(statement)]
        # An operand may follow the sign as well: "= 5 * 4", which is what the statement says.
        results = [n for n in found if signs and n.start >= signs[-1] - 1]
        return tuple(results[:1] or found)
    return ()


def same_conclusion(
    reference: Sequence[Number], rewrite: Sequence[Number], known: Sequence[Number]
) -> bool:
    """Return whether both end on the same values; what only one of them repeats must be `known`."""
    if not reference:
        return True
    shared = [n for n in reference if _among(n, rewrite)]
    repeated = [n for n in reference if not _among(n, rewrite)]
    repeated += [n for n in rewrite if not _among(n, reference)]
    return bool(shared) and all(_among(n, known) for n in repeated)


def _among(number: Number, others: Sequence[Number]) -> bool:
    """Return whether a value is among others, units aside: a conclusion may leave them out."""
    bare = Number(number.text, 0, 0, number.values, firm=False)
    return any(same_number(bare, Number(o.text, 0, 0, o.values, firm=False)) for o in others)


def choice(text: str) -> str:
    """Return the letter of a chosen option ("the answer is (B)"), or a leading yes or no.

    Empty where there is none.
    """
    if found := _CHOICE.findall(plain(text)):
        return str(found[-1]).upper()
    first = re.match(r"\W*(yes|no)\s*[,.:;!-]", text, re.I)
    return first[1].casefold() if first else ""
