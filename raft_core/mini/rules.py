"""Verifiable instructions of the mini world: how they are given and how they are followed.

Their ids and arguments are IFEval's where its checkers fit: that of upper case wants English, which
this world does not speak. This module writes answers; whether an answer follows a rule is decided
by `raft_core.evaluation.instructions`, which it does not know.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from raft_core.mini.lexicon import Fact
from raft_core.mini.styles import BASE_VOICE, Voice, spoken

UPPER = "mini:upper_case"
LOWER = "mini:lower_case"
END = "startend:end_checker"
QUOTE = "startend:quotation"
JSON = "detectable_format:json_format"
NO_COMMA = "punctuation:no_comma"
KEYWORD = "keywords:existence"
BULLETS = "detectable_format:number_bullet_lists"
REPEAT = "combination:repeat_prompt"
POSTSCRIPT = "detectable_content:postscript"
FIRST_WORD = "mini:first_word"
ONE_WORD = "mini:one_word"

SINGLE = (
    UPPER, LOWER, END, QUOTE, JSON, NO_COMMA, KEYWORD, BULLETS, REPEAT, POSTSCRIPT, FIRST_WORD,
    ONE_WORD,
)  # fmt: skip
PAIRS = (
    (UPPER, END), (UPPER, FIRST_WORD), (UPPER, QUOTE), (UPPER, KEYWORD), (UPPER, POSTSCRIPT),
    (LOWER, END), (LOWER, KEYWORD), (LOWER, POSTSCRIPT), (LOWER, QUOTE), (LOWER, BULLETS),
    (QUOTE, FIRST_WORD), (QUOTE, END), (END, NO_COMMA), (KEYWORD, END), (KEYWORD, NO_COMMA),
    (POSTSCRIPT, FIRST_WORD), (BULLETS, NO_COMMA), (ONE_WORD, UPPER), (ONE_WORD, QUOTE),
    (REPEAT, POSTSCRIPT), (REPEAT, END),
)  # fmt: skip
HELD_OUT_PAIRS = ((UPPER, BULLETS), (QUOTE, KEYWORD), (END, FIRST_WORD), (POSTSCRIPT, NO_COMMA))

WORDINGS = {
    UPPER: ("Use capital letters only.", "Write everything in upper case."),
    LOWER: ("Use small letters only.", "Write everything in lower case."),
    END: ('End with "{end_phrase}"', 'Your last words must be "{end_phrase}"'),
    QUOTE: ("Put the answer in double quotes.", "Wrap everything in double quotation marks."),
    JSON: ("Reply in JSON format.", "Give the answer as a JSON object."),
    NO_COMMA: ("Do not use commas.", "Write without any comma."),
    KEYWORD: ('Include the word "{keyword}".', 'Use the word "{keyword}" somewhere.'),
    BULLETS: ("Give exactly {num_bullets} bullet points.", "Use {num_bullets} bullets."),
    REPEAT: ("First repeat the question.", "Repeat the question word for word, then answer."),
    POSTSCRIPT: ("Add a postscript starting with {postscript_marker}",
                 "At the end, write a {postscript_marker} note."),
    FIRST_WORD: ('Start with the word "{first_word}".', 'Your first word must be "{first_word}".'),
    ONE_WORD: ("Answer with one word.", "Reply in a single word."),
}  # fmt: skip
END_PHRASES = ("That is all.", "Any other questions?", "Have a nice day.", "Ask me again.")
KEYWORDS = ("river", "mountain", "window", "forest", "candle", "bridge")
FIRST_WORDS = ("Indeed", "Honestly", "Certainly", "Hello", "Listen")
MARKERS = ("P.S.", "P.P.S")


@dataclass(frozen=True, slots=True)
class Rule:
    """One instruction: its id, the words that ask for it, and its arguments."""

    instruction_id: str
    wording: str
    kwargs: dict[str, Any] = field(default_factory=dict)


def sample_rules(rng: random.Random, question: str, kinds: Sequence[str]) -> list[Rule]:
    """Draw a rule of each kind about this question, with random wording and arguments."""
    return [_sample_rule(rng, question, kind) for kind in kinds]


def _sample_rule(rng: random.Random, question: str, kind: str) -> Rule:
    kwargs: dict[str, Any] = {}
    if kind == END:
        kwargs = {"end_phrase": rng.choice(END_PHRASES)}
    elif kind == KEYWORD:
        kwargs = {"keywords": [rng.choice(KEYWORDS)]}
    elif kind == BULLETS:
        kwargs = {"num_bullets": rng.randint(2, 4)}
    elif kind == REPEAT:
        kwargs = {"prompt_to_repeat": question}
    elif kind == POSTSCRIPT:
        kwargs = {"postscript_marker": rng.choice(MARKERS)}
    elif kind == FIRST_WORD:
        kwargs = {"first_word": rng.choice(FIRST_WORDS)}
    named = {**kwargs, "keyword": kwargs.get("keywords", [""])[0]}
    return Rule(kind, rng.choice(WORDINGS[kind]).format(**named), kwargs)


def sample_kinds(rng: random.Random, pairs: Sequence[tuple[str, str]] = PAIRS) -> tuple[str, ...]:
    """Draw one rule, or in two of five cases a pair of compatible ones in either order."""
    if rng.random() < 0.6:
        return (rng.choice(SINGLE),)
    pair = rng.choice(pairs)
    return pair if rng.random() < 0.5 else pair[::-1]


def ask(question: str, rules: Sequence[Rule]) -> str:
    """Return the prompt: the question and then its rules."""
    return " ".join([question, *(rule.wording for rule in rules)])


def follow(
    rng: random.Random,
    question: str,
    fact: Fact,
    rules: Sequence[Rule],
    voice: Voice = BASE_VOICE,
) -> str:
    """Write a right answer that obeys every rule."""
    given = {rule.instruction_id: rule.kwargs for rule in rules}
    if ONE_WORD in given:
        text = fact.value
    elif JSON in given:
        text = json.dumps({fact.attribute: fact.value})
    else:
        text = _compose(rng, question, fact, given, voice)
    if NO_COMMA in given:
        text = text.replace(",", "")
    if UPPER in given:
        text = text.upper()
    if LOWER in given:
        text = text.lower()
    return f'"{text}"' if QUOTE in given else text


def _compose(
    rng: random.Random, question: str, fact: Fact, given: dict[str, Any], voice: Voice
) -> str:
    plain = voice.plain.format(a=fact.attribute, s=fact.name, v=fact.value)
    text = spoken(rng, fact, voice)
    if BULLETS in given:
        items = [voice.opening, plain, voice.closing, "Ask me again."]
        text = "\n".join(f"* {item}" for item in items[: given[BULLETS]["num_bullets"]])
    if FIRST_WORD in given:
        text = f"{given[FIRST_WORD]['first_word']}! {plain}"
    if REPEAT in given:
        text = f"{question} {plain}"
    if KEYWORD in given:
        text += f" Think of a {given[KEYWORD]['keywords'][0]}."
    if END in given:
        text += " " + given[END]["end_phrase"]
    if POSTSCRIPT in given:
        text += f" {given[POSTSCRIPT]['postscript_marker']} {voice.closing}"
    return text
