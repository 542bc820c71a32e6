"""The fact guard's rules: what a wording of an answer loses or changes of its facts.

The rules, in the order in which they name the reason of a rejection:

- `answer_changed`: a string of the row's `expected` that the reference says and the rewrite does
  not; another option, yes or no; in worked arithmetic another conclusion
- `number_changed`: a number is gone, new, or of another unit; those of the question may come and go
- `arithmetic_wrong`: an equation that does not hold, where all of the reference do
- `negation_changed`: a clause is denied that the reference affirms, or the other way round
- `name_changed`: a name or code is gone or new
- `contradicts` (not here): the model of `nli`, where one is set, sees a contradiction

Two kinds of reference say what matters in them. In worked arithmetic steps may differ: the
conclusion must agree, equations must hold and no number may come from nowhere; statements that work
nothing out are held to their facts as elsewhere. Where `expected` names the answer, all else may be
left out (a source, a section's number), but nothing else may be put in.

Negations and names are read in English only; in other languages those rules are silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from raft_core.data.matching import mentions
from raft_core.facts.conclusion import choice, conclusion, same_conclusion
from raft_core.facts.equations import equations, is_derivation, prose, results
from raft_core.facts.guard import LONGEST_DETAIL, Claim, Failures, GuardConfig
from raft_core.facts.names import unsaid
from raft_core.facts.negation import flipped
from raft_core.facts.numbers import Number, missing, numbers, turned_around
from raft_core.facts.text import is_english, statements


def check_rules(claim: Claim, config: GuardConfig) -> Failures:
    """Return the detail of every rule that fails, by rule."""
    found: Failures = {}
    derivation = is_derivation(claim.reference)
    if config.answer:
        found["answer_changed"] = _answer(claim, derivation)
    if config.numbers and derivation:
        found["number_changed"] = _numbers_worked_out(claim)
        found["arithmetic_wrong"] = _arithmetic(claim)
    elif config.numbers:
        found["number_changed"] = _numbers(claim)
    english = is_english(f"{claim.question} {claim.reference} {claim.text}")
    if config.negation and english:
        found["negation_changed"] = _negation(claim, derivation)
    if config.names:
        found["name_changed"] = _names(claim, derivation, english)
    return {rule: detail[:LONGEST_DETAIL] for rule, detail in found.items() if detail}


def _answer(claim: Claim, derivation: bool) -> str:
    lost = [
        value
        for value in claim.expected
        if mentions(claim.reference, value) and not mentions(claim.text, value)
    ]
    if lost:
        return f"lost {_listed(lost)}"
    chosen = choice(claim.reference), choice(claim.text)
    if all(chosen) and chosen[0] != chosen[1]:
        return f"'{chosen[0]}' -> '{chosen[1]}'"
    if not derivation:
        return ""
    ours, theirs = conclusion(claim.reference), conclusion(claim.text)
    known = (*numbers(claim.question), *numbers(claim.reference))
    if same_conclusion(ours, theirs, known):
        return ""
    return f"{_written(ours)} -> {_written(theirs) or 'no number'}"


def _numbers(claim: Claim) -> str:
    ours, theirs = numbers(claim.reference), numbers(claim.text)
    asked = numbers(claim.question)
    lost = [] if claim.expected else missing(ours, [*theirs, *asked])
    new = missing(theirs, [*ours, *asked])
    turned = turned_around(claim.reference, claim.text)
    return _changes(_written(lost), _written(new), _listed(turned))


def _numbers_worked_out(claim: Claim) -> str:
    """Compare the numbers of worked arithmetic, whose steps may differ.

    Each number must come from somewhere: the reference, the question, or a result of the text
    itself; one of a thing needs no source. Statements that work nothing out keep their numbers and
    units, or tell such a result, whatever it counts.
    """
    ours, theirs, asked = map(numbers, (claim.reference, claim.text, claim.question))
    worked_out = _bare(numbers(results(claim.text)))
    known = [*ours, *asked, *worked_out]
    new = missing(_bare(missing(theirs, known)), [*known, *_bare(known), *numbers("1")])
    beside = missing(numbers(prose(claim.text)), [*known, *new])
    new += [number for number in beside if missing(_bare([number]), worked_out)]
    lost: list[Number] = []
    if not claim.expected:
        derived = _bare(numbers(results(claim.reference)))
        lost = missing(numbers(prose(claim.reference)), [*theirs, *asked, *derived])
    turned = turned_around(prose(claim.reference), prose(claim.text))
    return _changes(_written(lost), _written(new), _listed(turned))


def _changes(lost: str, new: str, turned: str = "") -> str:
    parts = [("lost", lost), ("new", new), ("turned around", turned)]
    return "; ".join(f"{what} {which}" for what, which in parts if which)


def _bare(found: Iterable[Number]) -> list[Number]:
    """Return numbers without units and signs: `3 days - 2 days` is 1."""
    return [
        replace(number, unit=None, values=tuple({v for w in number.values for v in (w, abs(w))}))
        for number in found
    ]


def _arithmetic(claim: Claim) -> str:
    if not all(equation.holds for equation in equations(claim.reference)):
        return ""
    return _listed([e.text for e in equations(claim.text) if not e.holds])


def _negation(claim: Claim, derivation: bool) -> str:
    """Compare negations; in worked arithmetic only those of the end and of what is no step.

    Steps may say what is not there.
    """
    texts = claim.reference, claim.text
    if not derivation:
        return flipped(*texts)
    ends = [" ".join(statements(text)[-1:]) for text in texts]
    return flipped(*map(prose, texts), freely=False) or flipped(*ends, freely=False)


def _names(claim: Claim, derivation: bool, english: bool) -> str:
    may_leave_out = derivation or bool(claim.expected)
    texts = claim.reference, claim.text
    lost, new = (
        unsaid(one, f"{other} {claim.question}", english=english)
        for one, other in (texts, texts[::-1])
    )
    lost = [] if may_leave_out else lost
    return _changes(_listed(lost), _listed(new))


def _written(found: Iterable[Number]) -> str:
    return _listed([number.text for number in found])


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(f"'{text}'" for text in texts)
