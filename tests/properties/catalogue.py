"""All that reads texts of rows and of models, each as a function of two texts.

The first is the text that may hold anything, the second what it is read beside: a question, a
reference, a passage.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from raft_core.config.base import PACKAGE_ROOT, ModelRef
from raft_core.config.secrets import masked
from raft_core.data import matching
from raft_core.data import sources as data
from raft_core.data.records import Example, FilteredRewrite
from raft_core.data.sources import Columns, question_and_answer
from raft_core.distill import health
from raft_core.documents import reading, report, splitting, structured, wording
from raft_core.documents.records import Document
from raft_core.documents.self_contained import leaning_phrase
from raft_core.documents.structured import MalformedError
from raft_core.engines import chat
from raft_core.engines.base import Completion, answer_text
from raft_core.engines.openai_answers import read_answer, read_choice
from raft_core.errors import InputError
from raft_core.evaluation import judges as judging
from raft_core.evaluation.benchmarks.base import Item, Response
from raft_core.evaluation.benchmarks.instructions import check_responses
from raft_core.facts import (
    conclusion,
    dates,
    equations,
    names,
    negation,
    number_words,
    numbers,
    text,
)
from raft_core.facts.guard import Claim, GuardConfig
from raft_core.facts.rules import check_rules
from raft_core.lineage import page
from raft_core.lineage.differences import difference
from raft_core.prompts import PromptRef
from raft_core.refine import grading
from raft_core.refine.filter import view_of
from raft_core.refine.prepare import comparable_words

Call = Callable[[str, str], object]
# Each asks its own question of the same answer; those that take patterns are given plain words.
CHECKS: dict[str, dict[str, Any]] = {
    "change_case:capital_word_frequency": {
        "capital_frequency": 2,
        "capital_relation": "at least",
    },
    "change_case:english_capital": {},
    "combination:repeat_prompt": {"prompt_to_repeat": "Say it."},
    "combination:two_responses": {},
    "detectable_content:number_placeholders": {"num_placeholders": 1},
    "detectable_content:postscript": {"postscript_marker": "P.S."},
    "detectable_format:constrained_response": {},
    "detectable_format:json_format": {},
    "detectable_format:multiple_sections": {"num_sections": 2, "section_spliter": "Section"},
    "detectable_format:number_bullet_lists": {"num_bullets": 2},
    "detectable_format:number_highlighted_sections": {"num_highlights": 1},
    "detectable_format:title": {},
    "keywords:existence": {"keywords": ["a"]},
    "keywords:frequency": {"frequency": 2, "keyword": "a", "relation": "at least"},
    "keywords:letter_frequency": {"let_frequency": 2, "let_relation": "at least", "letter": "a"},
    "length_constraints:nth_paragraph_first_word": {
        "first_word": "a",
        "nth_paragraph": 1,
        "num_paragraphs": 2,
    },
    "length_constraints:number_paragraphs": {"num_paragraphs": 2},
    "length_constraints:number_sentences": {"num_sentences": 2, "relation": "at least"},
    "length_constraints:number_words": {"num_words": 2, "relation": "at least"},
    "punctuation:no_comma": {},
    "startend:end_checker": {"end_phrase": "end"},
    "startend:quotation": {},
    "mini:first_word": {"first_word": "a"},
}


@dataclass(frozen=True)
class Subject:
    """What is called, and the errors that it declares: those that cost a row alone, or bad input.

    Its time is looked at up to a text of `longest` characters. What is not `linear` is a library's
    and ends at a deadline.
    """

    call: Call
    declares: tuple[type[Exception], ...] = ()
    longest: int = 8_000
    linear: bool = True


@cache
def tokenizer() -> Any:
    return chat.load_tokenizer(ModelRef(path=str(PACKAGE_ROOT / "mini" / "base")))


def _follows(name: str) -> Call:
    def follows(said: str, prompt: str) -> object:
        check = {"instruction_id": name, "kwargs": CHECKS[name]}
        item = Item("1", prompt, prompt, checks=(check,))
        ((found,),) = check_responses([item], [Response("ifeval", "1", prompt, said, "stop", 1)])
        assert "Overdue" not in found.problem
        return found

    return follows


def _judge(kind: str) -> Call:
    def vote(said: str, other: str) -> object:
        answers = [
            judging.JudgedAnswer("1", other, "It is 5.", said, ("5",)),
            judging.JudgedAnswer("2", "What?", said, other, (said[:200],)),
        ]
        return judging.RULE_JUDGES[kind](answers)

    return vote


def _guard(said: str, other: str) -> object:
    for claim in (Claim(other, other, said), Claim("What?", said, other, ("5",))):
        check_rules(claim, GuardConfig())
    return None


def _row(value: Any) -> object:
    rows = ({"question": value, "answer": value}, {"messages": value}, {"id": value})
    for row in rows:
        question_and_answer("row 1", {"question": "q", "answer": "a"} | row, Columns())
        data.checked_id("row 1", row.get("id"))
        data.checked_expected("row 1", {"expected": [value]})
    return None


def _line(said: str, _: str) -> object:
    return _row(data._parse_object(Path("rows.jsonl"), 1, said, "'question'"))


def _fields(said: str, other: str) -> object:
    turns = [{"role": "user", "content": said}, {"role": "assistant", "content": other}]
    question_and_answer("row 1", {"messages": turns}, Columns())
    return _row(said)


def _grades(said: str, other: str) -> object:
    example = Example("1", other, said, "train", ())
    rewrite = FilteredRewrite("1", said, True, 1.0, "", "")
    rows = [grading.FusionRow(example, rewrite)]
    return grading.coverage(rows, [said]), grading.support(rows, [other])


def _passages(said: str, _: str) -> object:
    found = splitting.split(said, lambda part: len(part), 400, 40, markdown=True)
    assert all(0 <= start < end <= len(said) for _, (start, end) in found)
    return found


def _document(said: str, _: str) -> object:
    return reading.checked(Document("1", "name", said[:50], said, ""), 1_000_000)


def _message(said: str, other: str) -> object:
    """What an endpoint's message may say, and a choice in it."""
    message = SimpleNamespace(content=said, refusal=other, reasoning=None)
    choice = SimpleNamespace(message=message, finish_reason="stop", token_ids=None)
    read_answer(SimpleNamespace(choices=[choice]))
    return read_choice(Completion(said, (), "stop"), ("yes", "no"))


def _vote(said: str, _: str) -> object:
    return judging._parse_verdict(Completion(said, (), "stop"), "llm_1")


def _page(said: str, other: str) -> object:
    shown = page.script_json({"said": page.shown_text(said), "other": other})
    assert "<" not in shown
    return json.loads(shown)


def _encoded(encode: Callable[[Any, str], object]) -> Call:
    """What rows and answers are refused for does not get as far as a tokenizer."""
    return lambda said, _: encode(tokenizer(), data.sound_text("row 1", "answer", said))


def _prompt(said: str, other: str) -> object:
    return PromptRef(name="judge.v2").load().render(question=other, reference=said, response=said)


SUBJECTS: dict[str, Subject] = {
    "facts: guard": Subject(_guard),
    "facts: numbers": Subject(lambda said, _: numbers.numbers(said)),
    "facts: number words": Subject(lambda said, _: list(number_words.number_words(said))),
    "facts: turned around": Subject(numbers.turned_around),
    "facts: missing": Subject(
        lambda said, other: numbers.missing(numbers.numbers(said), numbers.numbers(other))
    ),
    "facts: equations": Subject(lambda said, _: equations.equations(said)),
    "facts: results": Subject(lambda said, _: equations.results(said)),
    "facts: prose": Subject(lambda said, _: equations.prose(said)),
    "facts: dates": Subject(lambda said, _: list(dates.dates(said))),
    "facts: names": Subject(lambda said, _: names.names(said)),
    "facts: unsaid": Subject(names.unsaid),
    "facts: flipped": Subject(negation.flipped),
    "facts: conclusion": Subject(lambda said, _: conclusion.conclusion(said)),
    "facts: choice": Subject(lambda said, _: conclusion.choice(said)),
    "facts: plain": Subject(lambda said, _: text.plain(said)),
    "facts: clauses": Subject(lambda said, _: text.clauses(said)),
    "facts: english": Subject(lambda said, _: text.is_english(said)),
    "matching: mentions": Subject(matching.mentions),
    "matching: leak phrases": Subject(
        lambda said, _: health.leaking_share([said], matching.LEAK_PHRASES)
    ),
    "judge: exact": Subject(_judge("exact")),
    "judge: contains": Subject(_judge("contains")),
    "judge: first mention": Subject(_judge("first_mention")),
    "judge: unambiguous": Subject(_judge("unambiguous")),
    "judge: model": Subject(_vote),
    "grades": Subject(_grades),
    "filter: view": Subject(lambda said, other: view_of(other, said, "question_and_words")),
    "prepare: words": Subject(lambda said, _: comparable_words(said)),
    "rows: a line": Subject(_line, (InputError,)),
    "rows: a field": Subject(_fields, (InputError,)),
    "chat: prompt": Subject(_encoded(chat.encode_prompt), (InputError,)),
    "chat: answer": Subject(_encoded(chat.encode_text), (InputError,)),
    "chat: thinking": Subject(lambda said, _: answer_text(said)),
    "prompt": Subject(_prompt),
    "endpoint: message": Subject(_message),
    "documents: verdict": Subject(lambda said, _: structured.read_verdict(said), (MalformedError,)),
    "documents: pairs": Subject(lambda said, _: structured.read_pairs(said), (MalformedError,)),
    "documents: fence": Subject(lambda said, _: structured.fenced(said)),
    "documents: passages": Subject(_passages),
    "documents: read": Subject(_document),
    "documents: leaning": Subject(lambda said, _: leaning_phrase([said])),
    "documents: added facts": Subject(lambda said, other: wording.added_facts(said, other, other)),
    "documents: names": Subject(lambda said, other: wording.lacking_names(said, other)),
    "documents: report": Subject(lambda said, _: report.plain(said)),
    "lineage: difference": Subject(difference, longest=4_000),
    "lineage: page": Subject(_page),
    "secrets: masked": Subject(lambda said, _: masked(said)),
    **{f"instruction: {name}": Subject(_follows(name), linear=False) for name in CHECKS},
}
