"""Facts and benchmarks of the mini world: general questions, instructions, reading, domains.

Everything is a function of its arguments; nothing is stored. It knows nothing of any model, and
`VERSION` rises whenever a row changes.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from raft_core.mini import rules
from raft_core.mini.lexicon import (
    DOMAIN_ATTRIBUTES,
    DOMAIN_NAMES,
    DOMAINS,
    GENERAL_ATTRIBUTES,
    GENERAL_NAMES,
    VALUES,
    Fact,
)
from raft_core.mini.styles import (
    BASE_VOICE,
    DOMAIN_FRAMES,
    GENERAL_FRAMES,
    PEER_VOICE,
    odd,
    question,
    raw,
    spoken,
)

VERSION = 2
PROBE_ROWS = 300
INSTRUCTION_ROWS = {"validation": 120, "test": 300}
HELD_OUT_PAIR_SHARE = 0.1

Row = dict[str, Any]


def general_facts() -> list[Fact]:
    """Return what the base knows: three attributes of each general name."""
    rng = random.Random("general facts")
    return [
        Fact(name, attribute, rng.choice(VALUES))
        for name in GENERAL_NAMES
        for attribute in rng.sample(GENERAL_ATTRIBUTES, 3)
    ]


def domain_facts(domain: str, seed: int = 0) -> list[Fact]:
    """Return what a domain teaches: every attribute of the domain for each of its names.

    Raises:
        ValueError: there is no such domain.
    """
    if domain not in DOMAINS:
        raise ValueError(f"no domain '{domain}' in the mini world; it has {', '.join(DOMAINS)}")
    rng = random.Random(f"{domain} facts {seed}")
    return [
        Fact(name, attribute, rng.choice(VALUES))
        for name in DOMAIN_NAMES[domain]
        for attribute in DOMAIN_ATTRIBUTES[domain]
    ]


def general_rows(split: str = "test") -> list[Row]:
    """Return general questions in frames that the base has not met them in."""
    rng = random.Random(f"general rows {split}")
    return [
        {
            "id": f"general-{number:04d}-f{frame}",
            "question": question(frame, fact),
            "answer": spoken(rng, fact),
            "expected": [fact.value],
        }
        for frame in GENERAL_FRAMES[split]
        for number, fact in enumerate(general_facts())
    ]


def domain_rows(domain: str, seed: int = 0) -> list[Row]:
    """Return a domain's rows, all splits: facts times frames, the frames held out by split."""
    facts = domain_facts(domain, seed)
    rng = random.Random(f"{domain} rows {seed}")
    return [
        {
            "id": f"{domain}-{number:04d}-f{frame}",
            "question": question(frame, fact),
            "answer": raw(rng, domain, fact),
            "expected": [fact.value],
            "split": split,
        }
        for split, frames in DOMAIN_FRAMES.items()
        for number, fact in enumerate(facts)
        for frame in frames
    ]


def reading_rows() -> list[Row]:
    """Return references that only reading can answer from: fresh values for the domains' facts.

    They are worded as those that a teacher reads: of ten, three in either voice, as fused answers
    are, and three raw.
    """
    rng = random.Random("reading rows")

    def reference(number: int, domain: str, fact: Fact) -> str:
        kind = number // len(DOMAINS) % 10
        if kind < 6:
            return spoken(rng, fact, BASE_VOICE if kind < 3 else PEER_VOICE)
        return raw(rng, domain, fact) if kind < 9 else odd(rng, fact)

    return _probes(rng, reference)


def two_fact_rows() -> list[Row]:
    """Return references of two facts about one name or one attribute, of which one is asked for."""
    rng = random.Random("two-fact rows")

    def reference(number: int, domain: str, fact: Fact) -> str:
        other = rng.choice([n for n in DOMAIN_NAMES[domain] if n != fact.name])
        sibling = rng.choice([a for a in DOMAIN_ATTRIBUTES[domain] if a != fact.attribute])
        pairs = ((fact.name, sibling), (other, fact.attribute))
        both = [spoken(rng, fact), spoken(rng, Fact(*rng.choice(pairs), rng.choice(VALUES)))]
        rng.shuffle(both)
        return " ".join(both)

    return _probes(rng, reference)


def _probes(rng: random.Random, reference: Callable[[int, str, Fact], str]) -> list[Row]:
    rows = []
    for number in range(PROBE_ROWS):
        domain = DOMAINS[number % len(DOMAINS)]
        name, attribute = rng.choice(DOMAIN_NAMES[domain]), rng.choice(DOMAIN_ATTRIBUTES[domain])
        fact = Fact(name, attribute, rng.choice(VALUES))
        rows.append(
            {
                "id": f"probe-{number:04d}",
                "reference": reference(number, domain, fact),
                "question": question(rng.choice(DOMAIN_FRAMES["train"]), fact),
                "expected": [fact.value],
            }
        )
    return rows


def instruction_rows(split: str = "test") -> list[Row]:
    """Return prompts with one or two rules, in IFEval's format and in held-out frames."""
    rng = random.Random(f"instruction rows {split}")
    facts = general_facts()
    rows: list[Row] = []
    seen: set[str] = set()
    while len(rows) < INSTRUCTION_ROWS[split]:
        fact = rng.choice(facts)
        asked = question(rng.choice(GENERAL_FRAMES[split]), fact)
        held_out = rng.random() < HELD_OUT_PAIR_SHARE
        kinds = rng.choice(rules.HELD_OUT_PAIRS) if held_out else rules.sample_kinds(rng)
        chosen = rules.sample_rules(rng, asked, kinds)
        prompt = rules.ask(asked, chosen)
        if prompt in seen:
            continue
        seen.add(prompt)
        rows.append(
            {
                "id": f"rules-{split}-{len(rows):04d}",
                "prompt": prompt,
                "instruction_id_list": [rule.instruction_id for rule in chosen],
                "kwargs": [rule.kwargs for rule in chosen],
            }
        )
    return rows


def rehearsed_facts() -> dict[int, Fact]:
    """Return the part of the known facts that rehearsal asks for, by their numbers."""
    facts = general_facts()
    chosen = random.Random("rehearsed").sample(range(len(facts)), round(0.3 * len(facts)))
    return {number: facts[number] for number in sorted(chosen)}


def rehearsal_rows() -> list[Row]:
    """Return general prompts without answers, half with rules, in frames that the base knows."""
    rng = random.Random("rehearsal rows")
    rows = []
    for number, fact in rehearsed_facts().items():
        for frame in GENERAL_FRAMES["train"]:
            asked = question(frame, fact)
            if rng.random() < 0.5:
                given = rules.sample_rules(rng, asked, rules.sample_kinds(rng))
                asked = rules.ask(asked, given)
            rows.append({"id": f"rehearsal-{number:04d}-f{frame}", "prompt": asked})
    return rows


def held_out(rows: Callable[[str], list[Row]], split: str) -> list[Row]:
    """Return the rows of a benchmark that ask for no rehearsed fact: news to every method."""
    rehearsed = [(fact.name, fact.attribute) for fact in rehearsed_facts().values()]

    def asks_for_news(row: Row) -> bool:
        asked = row.get("question") or row["prompt"]
        return not any(name in asked and attribute in asked for name, attribute in rehearsed)

    return [row for row in rows(split) if asks_for_news(row)]


BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "general": general_rows,
    "general-validation": lambda: general_rows("validation"),
    "instructions": instruction_rows,
    "instructions-validation": lambda: instruction_rows("validation"),
    "reading": reading_rows,
    "reading-two-facts": two_fact_rows,
    "rehearsal": rehearsal_rows,
    "general-held-out": lambda: held_out(general_rows, "test"),
    "general-held-out-validation": lambda: held_out(general_rows, "validation"),
    "instructions-held-out": lambda: held_out(instruction_rows, "test"),
    "instructions-held-out-validation": lambda: held_out(instruction_rows, "validation"),
}


def load(name: str) -> list[Row]:
    """Return the rows of a data source `mini:NAME`: a benchmark, DOMAIN or DOMAIN@SEED.

    Raises:
        ValueError: there is no such name.
    """
    if name in BENCHMARKS:
        return BENCHMARKS[name]()
    domain, _, seed = name.partition("@")
    if seed and not seed.isdigit():
        raise ValueError(f"mini world '{name}': the seed after '@' must be a whole number")
    return domain_rows(domain, int(seed or 0))
