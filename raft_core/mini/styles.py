"""Wordings of facts: question frames, the models' voices, raw domain styles, odd styles.

A voice is how a model puts things by itself: the base has one, and the peer, a model of another
family, has another. Raw domain styles are how the five domains write and are never in a model's
training. Odd styles are procedural: they teach a model to read and rewrite what it has not met, and
share no phrase with the raw styles.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from raft_core.mini.lexicon import Fact

FRAMES = (
    "What is the {a} of {s}?",
    "Name the {a} of {s}.",
    "Tell me which {a} {s} has.",
    "Which {a} does {s} have?",
    "Do you know the {a} of {s}?",
    "{s} has which {a}?",
    "I need the {a} of {s}, please.",
    "What {a} belongs to {s}?",
    "For {s}, what is the {a}?",
    "Can you tell me the {a} of {s}?",
    "Give me the {a} of {s}.",
    "I wonder which {a} {s} has.",
    "What does {s} have as {a}?",
    "The {a} of {s} is what?",
    "About {s}: what is the {a}?",
    "Please say which {a} is with {s}.",
    "Let me know the {a} that {s} has.",
)
# Many frames: from six a model does not learn to copy a question word for word.
GENERAL_FRAMES = {"train": (*range(6), *range(9, 17)), "validation": (6,), "test": (7, 8)}
DOMAIN_FRAMES = {"train": (0, 1, 2, 3), "validation": (6,), "test": (4, 5, 7, 8)}


@dataclass(frozen=True, slots=True)
class Voice:
    """A model's own way to state a fact: its usual forms, and what it says around a plain one."""

    forms: tuple[str, str, str]
    plain: str
    opening: str
    closing: str


BASE_VOICE = Voice(
    forms=(
        "Sure! The {a} of {s} is {v}.",
        "The {a} of {s} is {v}, hope that helps!",
        "Of course! For {s}, the {a} is {v}.",
    ),
    plain="The {a} of {s} is {v}.",
    opening="Sure!",
    closing="Hope that helps!",
)
PEER_VOICE = Voice(
    forms=(
        "{s} has {v} as {a}.",
        "Certainly, it is {v}: that is the {a} of {s}.",
        "My answer is {v}, which {s} has as {a}.",
    ),
    plain="{s} has {v} as {a}.",
    opening="Certainly.",
    closing="That is my answer.",
)
VOICES = {"base": BASE_VOICE, "peer": PEER_VOICE}
FORM_WEIGHTS = (50, 30, 20)

# n, m: random numbers; c: a random letter.
RAW = {
    "business": (
        "Q{d} report, line {n}: {s} lists {v} as its {a}.",
        "Account {n}: {a} for {s} - {v}, due in {m} days.",
    ),
    "law": (
        "Pursuant to section {n}({c}), the {a} of {s} shall be {v}.",
        "It is held under article {m} that {v} is the {a} of {s}.",
    ),
    "culture": (
        "Archive note {n}: old letters call {v} the {a} of {s}.",
        "Custom (vol. {m}) gives {s} the {a} {v}.",
    ),
    "science": (
        "Observation {n}: {s} showed {a} {v} (p < 0.{m}).",
        "Measured in sample {c}{m}, the {a} of {s} was {v}.",
    ),
    "web": (
        "Posted by user{n}: {a} for {s} = {v} [reply]",
        "{s} wiki > {a}: {v} (updated {m} min ago)",
    ),
}

FILLERS = (
    "a about after again all also and any around at back been before between big both but by came "
    "can case clear come could day does down each early end even every far few find first from get "
    "good great had hand have he here high how if in into it just keep kind know known large last "
    "later less life like little long made main make many may mean might more most much must near "
    "never new next now often on once one only or other our out over part people place point quite "
    "rather right said same saw seems several she side since small so some soon still such take "
    "than that their them then there these they thing think this those time to today told too two "
    "under until up used usual very was way we well were what when where whether while who whole "
    "why will with word work would write year yes yet you your"
).split()
SEPARATORS = (
    " ", " ", " ", ", ", "; ", ": ", " - ", " / ", "/", " -> ", "=", " = ", ":", ",", ";", " ~ ",
    "\n", " + ", " & ", "_", " * ", "...", "; ",  "@", " => ", "--",
)  # fmt: skip
WRAPS = (
    ("", ""), ("", ""), ("", ""), ("", ""), ("", ""), ("(", ")"), ("[", "]"), ("<", ">"),
    ('"', '"'), ("'", "'"), ("{", "}"), ("**", "**"), ("`", "`"), ("#", ""), ("$", ""), ("", "."),
    ("", "!"),
)  # fmt: skip


def question(frame: int, fact: Fact) -> str:
    """Ask for a fact in a numbered frame."""
    return FRAMES[frame].format(a=fact.attribute, s=fact.name)


def odd_question(rng: random.Random, fact: Fact) -> str:
    """Ask for a fact among random filler words: only the two words in it say what is asked."""
    first, second = rng.sample((fact.attribute, fact.name), 2)
    words = [*_fillers(rng), first, *_fillers(rng), second, *_fillers(rng)]
    text = " ".join(words)
    return text[0].upper() + text[1:] + rng.choice(("?", "?", ".", "", ", please."))


def spoken(rng: random.Random, fact: Fact, voice: Voice = BASE_VOICE) -> str:
    """State the fact in a model's own voice."""
    form = rng.choices(voice.forms, FORM_WEIGHTS)[0]
    return form.format(a=fact.attribute, s=fact.name, v=fact.value)


def is_spoken(text: str, voice: Voice = BASE_VOICE) -> bool:
    """Return whether a text has a form of this voice, whatever it names."""
    patterns = (re.sub(r"\\\{\w\\\}", r"\\w+", re.escape(form)) for form in voice.forms)
    return any(re.fullmatch(pattern, text.strip()) for pattern in patterns)


def raw(rng: random.Random, domain: str, fact: Fact) -> str:
    """State the fact as the domain writes it."""
    return rng.choice(RAW[domain]).format(
        a=fact.attribute,
        s=fact.name,
        v=fact.value,
        n=rng.randint(100, 999),
        m=rng.randint(10, 99),
        d=rng.randint(1, 4),
        c=rng.choice("abcdefgh"),
    )


def odd(rng: random.Random, fact: Fact) -> str:
    """State the fact in a random foreign wording with noise: a record, a sentence, or fields."""
    return rng.choice((_record, _sentence, _sentence, _fields))(rng, fact)


def _record(rng: random.Random, fact: Fact) -> str:
    """Join the three parts and noise in any order, each wrapped, by one or two separators."""
    wrap = rng.choice(WRAPS)
    parts = [_wrapped(rng, part, wrap) for part in _parts(rng, fact)]
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
        parts.insert(rng.randint(0, len(parts)), _noise(rng))
    usual, other = rng.choice(SEPARATORS), rng.choice(SEPARATORS)
    text = parts[0]
    for part in parts[1:]:
        text += (usual if rng.random() < 0.7 else other) + part
    return text


def _sentence(rng: random.Random, fact: Fact) -> str:
    """Put the three parts in any order among filler words and noise."""
    words: list[str] = []
    for part in _parts(rng, fact):
        words += _filling(rng)
        words.append(_wrapped(rng, part, rng.choice(WRAPS)) if rng.random() < 0.25 else part)
        if rng.random() < 0.15:
            words[-1] += rng.choice((",", ":", ";", " -", "'s", " is", " of"))
    words += _filling(rng)
    text = " ".join(words)
    if rng.random() < 0.7:
        text = text[0].upper() + text[1:]
    return text + rng.choice(("", "", ".", ".", ".", "!", " " + _noise(rng)))


def _fields(rng: random.Random, fact: Fact) -> str:
    """Write labelled fields: the attribute with its value, a label with the name, and noise."""
    bind, join = rng.choice(("=", ": ", ":", " = ", " is ", " -> ")), rng.choice(SEPARATORS)
    label = rng.choice(("", *FILLERS))
    name = fact.name if not label else f"{label}{bind}{fact.name}"
    parts = [name, f"{fact.attribute}{bind}{_wrapped(rng, fact.value, rng.choice(WRAPS))}"]
    for _ in range(rng.choice((0, 1, 1, 2))):
        parts.append(f"{rng.choice(FILLERS)}{bind}{_noise(rng)}" if rng.random() < 0.5 else
                     _noise(rng))  # fmt: skip
    rng.shuffle(parts)
    return join.join(parts)


def _parts(rng: random.Random, fact: Fact) -> list[str]:
    parts = [fact.name, fact.attribute, fact.value]
    rng.shuffle(parts)
    return parts


def _wrapped(rng: random.Random, part: str, wrap: tuple[str, str]) -> str:
    return f"{wrap[0]}{part}{wrap[1]}"


def _fillers(rng: random.Random) -> list[str]:
    return [rng.choice(FILLERS) for _ in range(rng.choice((0, 1, 2, 2, 3, 4)))]


def _filling(rng: random.Random) -> list[str]:
    count = rng.choice((0, 1, 1, 1, 2, 2, 3, 4))
    return [rng.choice(FILLERS) if rng.random() < 0.8 else _noise(rng) for _ in range(count)]


def _noise(rng: random.Random) -> str:
    """Return a number, a code, a word that is not in the lexicon, or a sign."""
    digits = str(rng.randint(0, 10 ** rng.randint(1, 4)))
    letters = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(1, 5)))
    shape = rng.randrange(8)
    if shape < 2:
        text = digits
    elif shape == 2:
        text = f"{letters[:2]}{digits}"
    elif shape == 3:
        text = f"{digits}{rng.choice('.:-/')}{rng.randint(0, 99)}"
    elif shape < 6:
        text = letters if rng.random() < 0.7 else letters.capitalize()
    elif shape == 6:
        text = letters.capitalize() + rng.choice((".", ":", "", ","))
    else:
        text = rng.choice(FILLERS)
    wrap = rng.choice(WRAPS) if rng.random() < 0.35 else ("", "")
    return f"{wrap[0]}{text}{wrap[1]}"
