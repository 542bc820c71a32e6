"""The world is reproducible, and what is held out of the base's training is held out."""

from __future__ import annotations

import random
import re
from itertools import combinations

import pytest

from raft_core.evaluation.instructions import check_instruction
from raft_core.mini import corpus, rules, world
from raft_core.mini.lexicon import (
    DOMAIN_ATTRIBUTES,
    DOMAIN_NAMES,
    DOMAINS,
    GENERAL_NAMES,
    NAMES,
    SPARE_NAMES,
    SYLLABLES,
    VALUES,
    Fact,
    open_attributes,
)
from raft_core.mini.styles import (
    DOMAIN_FRAMES,
    FILLERS,
    FRAMES,
    GENERAL_FRAMES,
    RAW,
    VOICES,
    Voice,
    is_spoken,
    question,
    raw,
    spoken,
)

CHATS = 8000


@pytest.fixture(scope="module", params=VOICES)
def chats(request: pytest.FixtureRequest) -> list[corpus.Chat]:
    rng, voice = random.Random(11), VOICES[request.param]
    return [corpus.sample(rng, voice) for _ in range(CHATS)]


def test_lexicon_values_and_names_distinct() -> None:
    assert len(VALUES) == len(set(VALUES)) == 128
    assert len(NAMES) == len(set(NAMES)) == 200
    assert not {name.lower() for name in NAMES} & set(VALUES)


def test_lexicon_values_each_syllable_starts_two() -> None:
    starts = [value[:3] for value in VALUES]
    assert all(starts.count(syllable) == 2 for syllable in SYLLABLES)


def test_lexicon_name_groups_disjoint() -> None:
    groups = [GENERAL_NAMES, SPARE_NAMES, *DOMAIN_NAMES.values()]
    assert not any(set(a) & set(b) for a, b in combinations(groups, 2))


@pytest.mark.parametrize("domain", DOMAINS)
def test_domain_rows_same_seed_equal_other_seed_new_values(domain: str) -> None:
    assert world.domain_rows(domain, 1) == world.domain_rows(domain, 1)
    first, second = world.domain_facts(domain, 0), world.domain_facts(domain, 1)
    changed = [a.value != b.value for a, b in zip(first, second, strict=True)]
    assert sum(changed) > 50
    assert [(a.name, a.attribute) for a in first] == [(b.name, b.attribute) for b in second]


@pytest.mark.parametrize("domain", DOMAINS)
def test_domain_rows_splits_sized_and_frames_held_out(domain: str) -> None:
    rows = world.domain_rows(domain)
    frames: dict[str, set[str]] = {}
    for row in rows:
        frames.setdefault(row["split"], set()).add(row["id"].rpartition("-f")[2])
    counts = {split: sum(row["split"] == split for row in rows) for split in frames}
    assert counts == {"train": 240, "validation": 60, "test": 240}
    assert not any(a & b for a, b in combinations(frames.values(), 2))
    assert len({row["id"] for row in rows}) == len({row["question"] for row in rows}) == 540


@pytest.mark.parametrize("domain", DOMAINS)
def test_domain_answers_hold_expected_value_and_no_other(domain: str) -> None:
    for row in world.domain_rows(domain):
        words = re.findall(r"[a-z]+", row["answer"])
        assert [word for word in words if word in VALUES] == row["expected"]


def test_domain_facts_unknown_domain_error_names_it() -> None:
    with pytest.raises(ValueError, match=r"'art'.*business"):
        world.domain_facts("art")


def test_load_name_with_seed_gives_that_seed() -> None:
    assert world.load("law") == world.domain_rows("law", 0)
    assert world.load("law@2") == world.domain_rows("law", 2)
    with pytest.raises(ValueError, match="seed"):
        world.load("law@two")


def test_benchmarks_called_twice_equal() -> None:
    assert world.reading_rows() == world.reading_rows()
    for split in ("validation", "test"):
        assert world.general_rows(split) == world.general_rows(split)
        assert world.instruction_rows(split) == world.instruction_rows(split)


def test_general_rows_splits_sized_and_frames_held_out() -> None:
    assert len(world.general_rows()) == 360
    assert len(world.general_rows("validation")) == 180
    splits = [set(frames) for frames in GENERAL_FRAMES.values()]
    assert not any(a & b for a, b in combinations(splits, 2))


def test_frames_all_name_both_and_are_distinct() -> None:
    assert len(set(FRAMES)) == len(FRAMES)
    assert all("{a}" in frame and "{s}" in frame for frame in FRAMES)
    used = {f for frames in DOMAIN_FRAMES.values() for f in frames}
    assert used <= set(range(len(FRAMES)))


def test_corpus_domain_names_never_meet_own_attributes(chats: list[corpus.Chat]) -> None:
    rng = random.Random(12)
    facts = [corpus.random_fact(rng) for _ in range(CHATS)]
    met = {(fact.name, fact.attribute) for fact in facts}
    for domain in DOMAINS:
        own = {(n, a) for n in DOMAIN_NAMES[domain] for a in DOMAIN_ATTRIBUTES[domain]}
        assert not met & own
        assert all(a not in open_attributes(n) for n, a in own)
        for chat in chats:
            for sentence in re.split(r"[.,?!\n]", chat.answer):
                words = set(re.findall(r"\w+", sentence))
                assert not any(n in words and a in words for n, a in own)


def test_corpus_closed_book_prompts_use_no_held_out_frame(chats: list[corpus.Chat]) -> None:
    held_out = {
        question(frame, fact)
        for split in ("validation", "test")
        for frame in GENERAL_FRAMES[split]
        for fact in world.general_facts()
    }
    closed_book = [c for c in chats if c.family in ("answering", "following")]
    assert len(closed_book) > CHATS / 4
    assert not any(c.prompt.startswith(tuple(held_out)) for c in closed_book)


def test_corpus_raw_styles_are_not_in_it(chats: list[corpus.Chat]) -> None:
    literal = {
        piece.strip()
        for forms in RAW.values()
        for form in forms
        for piece in re.split(r"\{\w\}", form)
        if len(re.findall(r"[A-Za-z]{4,}", piece)) and len(piece.split()) > 1
    }
    assert len(literal) >= len(DOMAINS)
    assert not any(piece in chat.prompt for piece in literal for chat in chats)


def test_odd_styles_fillers_are_not_lexicon_words() -> None:
    assert not set(FILLERS) & {*VALUES, *(a for own in DOMAIN_ATTRIBUTES.values() for a in own)}


def test_corpus_same_generator_same_chats() -> None:
    assert corpus.sample(random.Random(4)) == corpus.sample(random.Random(4))


@pytest.mark.parametrize("split", ["validation", "test"])
def test_instruction_rows_own_answer_follows_every_rule(split: str) -> None:
    rows = world.instruction_rows(split)
    assert len(rows) == world.INSTRUCTION_ROWS[split]
    rng = random.Random(13)
    fact = world.general_facts()[0]
    for row in rows:
        chosen = [
            rules.Rule(rule, "", kwargs)
            for rule, kwargs in zip(row["instruction_id_list"], row["kwargs"], strict=True)
        ]
        answer = rules.follow(rng, question(7, fact), fact, chosen)
        for rule in chosen:
            repeated = (
                {"prompt_to_repeat": question(7, fact)}
                if rule.kwargs.get("prompt_to_repeat")
                else {}
            )
            assert check_instruction(rule.instruction_id, answer, rule.kwargs | repeated)


def test_instruction_rows_cover_every_rule() -> None:
    asked = {rule for row in world.instruction_rows() for rule in row["instruction_id_list"]}
    assert asked == set(rules.SINGLE)


def test_rules_held_out_pairs_not_trained() -> None:
    trained = {frozenset(pair) for pair in rules.PAIRS}
    assert not trained & {frozenset(pair) for pair in rules.HELD_OUT_PAIRS}


def test_rules_plain_house_answer_follows_few(chats: list[corpus.Chat]) -> None:
    rng = random.Random(14)
    fact = world.general_facts()[0]
    rows = world.instruction_rows()
    followed = [
        all(
            check_instruction(rule, spoken(rng, fact), kwargs)
            for rule, kwargs in zip(row["instruction_id_list"], row["kwargs"], strict=True)
        )
        for row in rows
    ]
    assert sum(followed) / len(rows) < 0.1


@pytest.mark.parametrize("voice", VOICES.values(), ids=VOICES)
def test_is_spoken_own_voice_true_raw_styles_and_other_voice_false(voice: Voice) -> None:
    fact, rng = Fact("Kaltor", "court", "dorvin"), random.Random(15)
    assert all(
        is_spoken(form.format(a="court", s="Kaltor", v="dorvin"), voice) == (own == voice)
        for own in VOICES.values()
        for form in own.forms
    )
    assert not any(
        is_spoken(raw(rng, domain, fact), voice) for domain in DOMAINS for _ in range(20)
    )


def test_raw_styles_and_voices_hold_no_syllable_of_the_lexicon() -> None:
    """Its token would stand for a part of a value there: "edit" is read as "e" and "dit"."""
    said = [text for v in VOICES.values() for text in (*v.forms, v.plain, v.opening, v.closing)]
    written = [form for forms in RAW.values() for form in forms]
    literal = [re.sub(r"\{\w\}", " ", form).lower() for form in (*said, *written)]
    assert not {syllable for syllable in SYLLABLES for text in literal if syllable in text}
