"""The base's training mixture: answering, rules, reading, rewriting and fusion.

An endless stream of single-turn chats drawn from one random generator, answered in one voice. It
never uses a raw domain style, a held-out frame with a general fact, or a domain's name with that
domain's own attribute.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from raft_core.mini import rules
from raft_core.mini.lexicon import NAMES, VALUES, Fact, open_attributes
from raft_core.mini.styles import (
    BASE_VOICE,
    FRAMES,
    GENERAL_FRAMES,
    PEER_VOICE,
    Voice,
    odd,
    odd_question,
    question,
    spoken,
)
from raft_core.mini.world import general_facts
from raft_core.prompts import load_prompt

TEACHER, REWRITE, FUSE = "teacher.v1", "rewrite.mini.v1", "fuse.mini.v1"
RULE_IN_READING = 0.15
ODD_QUESTIONS = 0.15
ODD_QUESTIONS_TO_REPEAT = 0.5


@dataclass(frozen=True, slots=True)
class Chat:
    """One user turn and the answer to be learned."""

    family: str
    prompt: str
    answer: str

    def messages(self) -> list[dict[str, str]]:
        """Return the two turns in the chat format."""
        return [
            {"role": "user", "content": self.prompt},
            {"role": "assistant", "content": self.answer},
        ]


@lru_cache(maxsize=1)
def _known() -> tuple[Fact, ...]:
    return tuple(general_facts())


def heard(rng: random.Random, voice: Voice) -> Voice:
    """Choose the voice of a text that a model is given: the peer also fuses the base's texts."""
    return rng.choice((BASE_VOICE, PEER_VOICE)) if voice == PEER_VOICE else voice


def random_fact(rng: random.Random) -> Fact:
    """Return a made-up fact: any name, an attribute open to it, any value."""
    name = rng.choice(NAMES)
    return Fact(name, rng.choice(open_attributes(name)), rng.choice(VALUES))


def ask_general(rng: random.Random, fact: Fact, odd_share: float = ODD_QUESTIONS) -> str:
    """Ask for a fact in a frame that is not held out, now and then in a random wording.

    A dozen frames alone teach the frames: a question in another one is then taken for a known one.
    """
    if rng.random() < odd_share:
        return odd_question(rng, fact)
    return question(rng.choice(GENERAL_FRAMES["train"]), fact)


def answering(rng: random.Random, voice: Voice) -> Chat:
    """Ask for a general fact, closed-book."""
    fact = rng.choice(_known())
    asked = ask_general(rng, fact)
    return Chat("answering", asked, spoken(rng, fact, voice))


def following(rng: random.Random, voice: Voice) -> Chat:
    """Ask for a general fact under one or two rules."""
    fact, kinds = rng.choice(_known()), rules.sample_kinds(rng)
    odd_share = ODD_QUESTIONS_TO_REPEAT if rules.REPEAT in kinds else ODD_QUESTIONS
    asked = ask_general(rng, fact, odd_share)
    chosen = rules.sample_rules(rng, asked, kinds)
    answer = rules.follow(rng, asked, fact, chosen, voice)
    return Chat("following", rules.ask(asked, chosen), answer)


def reading(rng: random.Random, voice: Voice) -> Chat:
    """Ask for a reference's fact under the teacher's template, now and then with rules."""
    fact = random_fact(rng)
    draw = rng.random()
    if draw < 0.30:
        reference = spoken(rng, fact, heard(rng, voice))
    elif draw < 0.70:
        reference = odd(rng, fact)
    else:
        reference = _beside_another(rng, fact, voice)
    asked = question(rng.randrange(len(FRAMES)), fact)
    if rng.random() < ODD_QUESTIONS:
        asked = odd_question(rng, fact)
    prompt, answer = asked, spoken(rng, fact, voice)
    if rng.random() < RULE_IN_READING:
        chosen = rules.sample_rules(rng, asked, rules.sample_kinds(rng))
        prompt, answer = rules.ask(asked, chosen), rules.follow(rng, asked, fact, chosen, voice)
    rendered = load_prompt(TEACHER).render(reference=reference, question=prompt)
    return Chat("reading", rendered, answer)


def _reference(rng: random.Random, fact: Fact, voice: Voice, odd_share: float) -> str:
    if rng.random() < odd_share:
        return odd(rng, fact)
    return spoken(rng, fact, heard(rng, voice))


def _beside_another(rng: random.Random, fact: Fact, voice: Voice) -> str:
    """State the fact beside one that shares its name or its attribute, in either order."""
    other = fact
    while (other.name, other.attribute) == (fact.name, fact.attribute):
        name = fact.name if rng.random() < 0.5 else rng.choice(NAMES)
        attributes = open_attributes(name)
        same = fact.attribute in attributes and rng.random() < 0.7
        attribute = fact.attribute if same else rng.choice(attributes)
        other = Fact(name, attribute, rng.choice(VALUES))
    texts = [
        spoken(rng, each, heard(rng, voice)) if rng.random() < 0.7 else odd(rng, each)
        for each in (fact, other)
    ]
    rng.shuffle(texts)
    return " ".join(texts)


def rewriting(rng: random.Random, voice: Voice) -> Chat:
    """Have a reference in an odd style retold in the model's own voice."""
    fact = random_fact(rng)
    reference = _reference(rng, fact, voice, odd_share=0.9)
    asked = question(rng.randrange(len(FRAMES)), fact)
    prompt = load_prompt(REWRITE).render(question=asked, reference=reference)
    return Chat("rewriting", prompt, spoken(rng, fact, voice))


def fusing(rng: random.Random, voice: Voice) -> Chat:
    """Have a reference and its rewrite fused; where they differ, the reference wins."""
    fact = random_fact(rng)
    reference = _reference(rng, fact, voice, odd_share=0.8)
    draw = rng.random()
    if draw < 0.60:
        rewrite = spoken(rng, fact, heard(rng, voice))
    elif draw < 0.85:
        wrong = Fact(fact.name, fact.attribute, rng.choice(VALUES))
        rewrite = spoken(rng, wrong, heard(rng, voice))
    else:
        rewrite = reference
    asked = question(rng.randrange(len(FRAMES)), fact)
    prompt = load_prompt(FUSE).render(question=asked, reference=reference, rewrite=rewrite)
    return Chat("fusing", prompt, spoken(rng, fact, voice))


MIXTURE: dict[Callable[[random.Random, Voice], Chat], float] = {
    answering: 0.15,
    following: 0.33,
    reading: 0.28,
    rewriting: 0.13,
    fusing: 0.11,
}


def sample(rng: random.Random, voice: Voice = BASE_VOICE) -> Chat:
    """Draw the next chat of the mixture."""
    (family,) = rng.choices(tuple(MIXTURE), tuple(MIXTURE.values()))
    return family(rng, voice)
