"""Find equations in worked arithmetic between operators and '=', and evaluate them without `eval`.

`9 plus 9 plus 3 equals 21` and `4 horses x 5 pounds = 20 pounds` are equations; `n = 20`, `x + 3 =
8` and `1 hour = 60 minutes` are none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from raft_core.facts.text import plain, statements

_WORDS_FOR = [
    (re.compile(rf"\b(?:{words})\b", re.I), f" {symbol} ")
    for words, symbol in (
        ("is equal to|are equal to|equals?|equal to", "="),
        ("multiplied by|times(?= [$€£]?[0-9.(])", "*"),
        ("divided by", "/"),
        ("plus", "+"),
        ("minus", "-"),
    )
]
_TOKEN = re.compile(r"\d[\d,]*(?:\.\d+)?%?|\.\d+%?|[-+*/×÷·()\[\]=]|[^\W\d_]+(?:'[^\W\d_]+)?|\S")
_OPERATORS = {"×": "*", "÷": "/", "·": "*"}
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}
# Bounded, so that the time stays linear; a variable stands apart, unlike the T of a T-cell.
_VARIABLE = r"(?<![^\W\d_])(?<![^\W\d_]['-]){}(?![^\W_]|')"
_OPERAND = rf"(?:\d[\d.]{{0,9}}|\(|{_VARIABLE.format('[a-z]')})"
_LETTER = _VARIABLE.format("([a-z])")
_ALGEBRA = re.compile(
    rf"(?:{_LETTER}\s?[-+*/]\s?{_OPERAND}|\d\s?[-+*/]\s?(?:\d[\d.]{{0,9}})?{_LETTER})"
    rf"(?:[\d\s.()$+*/-]|{_VARIABLE.format('[a-z]')}){{0,60}}="
    rf"|=\s?(?:\d[\d.]{{0,9}}\s?)?{_LETTER}\s?[-+*/]\s?[\d(]",
    re.I,
)
_SOLVED = re.compile(rf"{_LETTER}\s?=\s?(?P<result>-?[$€£¥]?\s?\d[\d.,]{{0,19}})", re.I)
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.S)
_MOST_WORDS_AFTER_A_NUMBER = 6


@dataclass(frozen=True, slots=True)
class Equation:
    """Both sides of an equation, as read; `holds` allows for the rounding of the result."""

    text: str
    holds: bool


@lru_cache(maxsize=1024)
def equations(text: str) -> tuple[Equation, ...]:
    """Return the equations of a text, of which at least the left side is an operation."""
    return tuple(equation for line in _lines(text) for equation in _of_line(line))


@lru_cache(maxsize=4096)
def is_derivation(text: str) -> bool:
    """Return whether a text works something out: an equation that holds, or one that is solved."""
    return any(equation.holds for equation in equations(text)) or bool(_solved(text))


@lru_cache(maxsize=1024)
def prose(text: str) -> str:
    """Return the statements of a text that work nothing out, a line each."""
    solved = _solved(text)
    return "\n".join(
        statement
        for statement in statements(plain(text))
        if not (
            any(equation.holds for equation in equations(statement))
            or (solved and (_ALGEBRA.search(statement) or _SOLVED.search(statement)))
        )
    )


@lru_cache(maxsize=1024)
def results(text: str) -> str:
    """Return what stands first behind the equals signs of operations and of solved variables."""
    found = []
    for line in _lines(text):
        sides = [_TOKEN.findall(side) for side in line.split("=")]
        for left, right in pairwise(sides):
            expression = _last_expression(left)
            result = _first_expression(right)
            if result and expression and any(token in _PRECEDENCE for token in expression):
                found.append(result[0])
    solved = _solved(text)
    for match in _SOLVED.finditer(plain(text)) if solved else ():
        if match[1].casefold() in solved:
            found.append(match["result"].rstrip(".,"))
    return "\n".join(found)


def _solved(text: str) -> set[str]:
    """Return the variables that an equation has beside an operator and that equal a number."""
    text = _CODE.sub(" ", plain(text))
    used = {name.casefold() for match in _ALGEBRA.finditer(text) for name in match.groups() if name}
    return used & {match[1].casefold() for match in _SOLVED.finditer(text)} if used else set()


def _lines(text: str) -> Iterator[str]:
    text = plain(text)
    for pattern, symbol in _WORDS_FOR:
        text = pattern.sub(symbol, text)
    text = re.sub(r"[$€£¥]\s?", "", text)
    text = re.sub(r"(?<=[\d)%])\s*[xX]\s*(?=[\d(.])", " * ", text)
    text = re.sub(r"(?<=[A-Za-z)])\s+[xX]\s+(?=[\d(.])", " * ", text)
    text = re.sub(r"(?<=\d)\((?=[\d(.])", "*(", text)
    text = re.sub(r"(%|\d/\d+)\s+of(?:\s+the)?\s+(?=\d)", r"\1 * ", text)
    text = re.sub(r"/\s?(?=[A-Za-z])", " per ", text)  # 60 minutes/hour
    yield from re.split(r"\n|(?<=[^\d\s])\.\s|\.\s+(?=[A-Z])|;|,\s", text)


def _of_line(line: str) -> Iterator[Equation]:
    sides = [_TOKEN.findall(side) for side in line.split("=")]
    for left, right in pairwise(sides):
        expression = _last_expression(left)
        if expression is None or not any(token in _PRECEDENCE for token in expression):
            continue
        results = list(_results(right))
        if results:
            holds = any(_agree(expression, result) for result in results)
            shown = f"{' '.join(expression)} = {' '.join(results[0])}"
            if holds or not _may_begin_earlier(left, expression):
                yield Equation(shown, holds)


def _may_begin_earlier(side: Sequence[str], expression: Sequence[str]) -> bool:
    """Return whether a number shortly precedes the operation: `24 eggs in 1 tray x 2 trays`."""
    places = [i for i, token in enumerate(side) if _is_number(token)]
    inside = sum(map(_is_number, expression))
    if len(places) == inside:
        return False
    first, before = places[-inside], places[-inside - 1]
    return all(_is_word(token) for token in side[before + 1 : first])


def _results(side: Sequence[str]) -> Iterator[list[str]]:
    """Yield the right side as an operation, and its first number alone (2 + 3 = 5 + 4 = 9)."""
    first = _first_expression(side)
    if first is None:
        return
    yield first
    if len(first) > 1 and _is_number(first[0]):
        yield first[:1]


def _last_expression(tokens: Sequence[str]) -> list[str] | None:
    """Return the longest operation that ends with these tokens, without the units in it."""
    swapped = {"(": ")", ")": "(", "[": ")", "]": "("}
    found = _expression([swapped.get(t, t) for t in reversed(tokens)], words_before=True)
    back = {"(": ")", ")": "("}
    return None if found is None else [back.get(t, t) for t in reversed(found)]


def _first_expression(tokens: Sequence[str]) -> list[str] | None:
    return _expression([{"[": "(", "]": ")"}.get(t, t) for t in tokens], words_before=False)


def _expression(tokens: Sequence[str], *, words_before: bool) -> list[str] | None:
    """Return the numbers, operators and closed parentheses from the start of `tokens`.

    Words are units: they follow a number, which comes first where tokens run backwards. A word of
    one letter is a variable, and what contains one is no equation of numbers.
    """
    taken: list[str] = []
    complete = 0
    depth, wants_number, words = 0, True, 0
    for token in tokens:
        token = _OPERATORS.get(token, token)
        if _is_word(token):
            if len(token) == 1 and token.casefold() != "a":
                return None
            words += 1
            if words > _MOST_WORDS_AFTER_A_NUMBER or (wants_number and not words_before):
                break
            if not wants_number and words_before:
                break
            continue
        if wants_number and token == "(":
            depth += 1
        elif wants_number and _is_number(token):
            wants_number = False
        elif not wants_number and token == ")" and depth:
            depth -= 1
        elif not wants_number and token in _PRECEDENCE:
            wants_number = True
        else:
            break
        words = 0
        taken.append(token)
        if not wants_number and depth == 0:
            complete = len(taken)
    return taken[:complete] or None


def _is_number(token: str) -> bool:
    return bool(re.match(r"\.?\d", token))


def _is_word(token: str) -> bool:
    return token.replace("'", "").isalpha()


def _agree(left: Sequence[str], right: Sequence[str]) -> bool:
    """Return whether both have one value, percents read as hundredths or as they stand."""
    rounded = _rounding(left, right)
    values = [
        (a, b)
        for a in _values(left)
        for b in _values(right)
        if math.isfinite(a) and math.isfinite(b)
    ]
    return any(abs(a - b) <= max(rounded, 0.005 * abs(b)) for a, b in values)


def _rounding(left: Sequence[str], right: Sequence[str]) -> float:
    """Return what a result may be off by: its last decimal, or almost one after a division."""
    if len(right) != 1:
        return 1e-9
    digits = right[0].rstrip("%").partition(".")[2]
    if digits:
        return 1.0 * 10.0 ** -len(digits)
    return 0.999 if "/" in left or any("%" in token or "." in token for token in left) else 1e-9


def _values(expression: Sequence[str]) -> Iterator[float]:
    for percent in (0.01, 1.0):
        yield _evaluate(expression, percent)
        if not any(token.endswith("%") for token in expression):
            return


def _evaluate(expression: Sequence[str], percent: float) -> float:
    """Evaluate with the usual precedence, by two stacks; not a number where one divides by 0."""
    numbers: list[float] = []
    operators: list[str] = []

    def apply() -> None:
        operator, b, a = operators.pop(), numbers.pop(), numbers.pop()
        if operator == "/":
            numbers.append(a / b if b else math.nan)
        else:
            numbers.append({"+": a + b, "-": a - b, "*": a * b}[operator])

    for token in expression:
        if token == "(":
            operators.append(token)
        elif token == ")":
            while operators[-1] != "(":
                apply()
            operators.pop()
        elif token in _PRECEDENCE:
            while operators and _PRECEDENCE.get(operators[-1], 0) >= _PRECEDENCE[token]:
                apply()
            operators.append(token)
        else:
            value = float(token.rstrip("%").replace(",", ""))
            numbers.append(value * percent if token.endswith("%") else value)
    while operators:
        apply()
    return numbers[0]
