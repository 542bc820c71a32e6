"""Find negations: does one text deny what the other affirms?

Clauses of both texts that share most of their words are compared. Where they are worded alike each
negation counts; where they are put more freely, only whether there is one. Words that may stand for
a negation (`similar` for `no difference`) give slack where one side alone has them. English only:
the caller asks `is_english`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

from raft_core.facts.text import clauses, plain, stem, words

_NEGATIONS = frozenset(
    "not no never none nobody nothing nowhere neither without cannot hardly scarcely unable "
    "lack lacks lacked lacking absence absent fail fails failed failing failure unlikely".split()
)
# Words that may stand for a negation.
_LIKE_A_NEGATION = re.compile(
    r"similar(?:ly|ity)?|comparabl[ey]|same|equal(?:ly)?|equivalent|identical|unchanged|exclud\w+|"
    r"avoid\w*|prevent\w*|refus\w+|den(?:y|ies|ied)|reject\w*|forbid\w*|forbidden|prohibit\w*|only|"
    r"barely|rarely|seldom|little|few|limited|instead|rather|against|ruled|stop\w*|missing|free|"
    r"exempt\w*|contrary|irrespective|regardless|despite|question\w*|doubt\w*|devoid|minimal|negligible"
)
_PREFIX = re.compile(r"un|in|im|il|ir|non|dis")
_NEUTRAL = re.compile(
    r"\bnot (?:only|just|merely|solely|simply)\b|\bwhether or not\b|\bno\.? ?(?=\d)|\bno doubt\b",
    re.I,
)
_NOR_DID = re.compile(
    r"\bnor (?:do|does|did|is|are|was|were|has|have|had|can|could|will|would)\b", re.I
)
_SMALL_WORDS = frozenset(
    "a an the of and or with were are is was be been being has have had this these those that "
    "which who there from by its it their his her he she they we our in on at to for as if do "
    "does did done should could can may might will would must than then also so such any some "
    "all".split()
)
_SAME_CLAUSE = 0.5  # share of the shorter one's words
_WORDED_ALIKE = 0.75  # share of all words of both


@dataclass(frozen=True, slots=True)
class Clause:
    """A clause with its content words' stems, its negations, and words that may stand for one."""

    text: str
    content: frozenset[str]
    negations: int
    like_negations: frozenset[str]


def flipped(reference: str, rewrite: str, *, freely: bool = True) -> str:
    """Return the clauses of reference and rewrite that contradict each other, or nothing.

    If `freely` is false, or both texts have equally many negations, only clauses that are worded
    alike are compared.
    """
    ours, theirs = _clauses(reference), _clauses(rewrite)
    # In other words, a negation may have moved into a clause that has no counterpart.
    freely = freely and _denials(ours) != _denials(theirs)
    for some, others in _matched(ours, theirs):
        if _contradict(some, others, freely):
            return f"'{' '.join(c.text for c in some)}' -> '{' '.join(c.text for c in others)}'"
    return ""


def _denials(clauses: list[Clause]) -> int:
    return sum(clause.negations for clause in clauses)


def _clauses(text: str) -> list[Clause]:
    return [_clause(part) for part in clauses(plain(text))]


def _clause(text: str) -> Clause:
    said = words(_NEUTRAL.sub(" ", text))
    marks = [w for w in said if w in _NEGATIONS or w.endswith("n't")]
    if not marks and _NOR_DID.search(text):  # after another negation, `nor` only continues it
        marks = ["nor"]
    like = {stem(w) for w in said if _LIKE_A_NEGATION.fullmatch(w)}
    plain_words = {w for w in said if w not in marks and w != "nor"}
    content = {stem(w) for w in plain_words - _SMALL_WORDS} or plain_words
    return Clause(text, frozenset(content), len(marks), frozenset(like))


def _matched(ours: list[Clause], theirs: list[Clause]) -> list[tuple[list[Clause], list[Clause]]]:
    """Group clauses that say the same things, however they are split and ordered.

    Two clauses that both have a counterpart in nearly the same words are not put together.
    """
    near, alike = _near(ours, theirs)
    ours_paired = {i for i, _ in alike}
    theirs_paired = {j for _, j in alike}
    first = list(range(len(ours)))  # union-find: the root names the group

    def root(i: int) -> int:
        while first[i] != i:
            first[i] = i = first[first[i]]
        return i

    one_of: dict[int, int] = {}  # one of theirs -> one of ours in its group
    for j, with_j in enumerate(near):
        for i in with_j:
            if (i, j) in alike or i not in ours_paired or j not in theirs_paired:
                first[root(i)] = root(one_of.setdefault(j, i))
    yours_of: dict[int, list[int]] = {}  # in the order of their last clause
    for j, i in one_of.items():
        yours = yours_of.pop(root(i), [])
        yours.append(j)
        yours_of[root(i)] = yours
    mine_of: dict[int, list[int]] = {}
    for i in range(len(ours)):
        mine_of.setdefault(root(i), []).append(i)
    return [
        ([ours[i] for i in mine_of[group]], [theirs[j] for j in yours])
        for group, yours in yours_of.items()
    ]


def _near(ours: list[Clause], theirs: list[Clause]) -> tuple[list[list[int]], set[tuple[int, int]]]:
    """Return for each of theirs those of ours that share most words, and the pairs worded alike."""
    having: defaultdict[str, list[int]] = defaultdict(list)
    denied: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for i, one in enumerate(ours):
        for word in one.content:
            having[word].append(i)
            if rest := _without_prefix(word):
                denied[rest].append((i, word))
    sizes = [len(one.content) for one in ours]
    near: list[list[int]] = []
    alike: set[tuple[int, int]] = set()
    for j, other in enumerate(theirs):
        content, size = other.content, len(other.content)
        shared = Counter(chain.from_iterable(having.get(word, ()) for word in content))
        alike |= {(i, j) for i, n in shared.items() if n >= _WORDED_ALIKE * (sizes[i] + size - n)}
        for word in content:  # and the opposites, on either side
            shared.update(i for i, denial in denied.get(word, ()) if denial not in content)
            affirming = having.get(_without_prefix(word), [])
            shared.update(i for i in affirming if word not in ours[i].content)
        near.append(sorted(i for i, n in shared.items() if n > _SAME_CLAUSE * min(sizes[i], size)))
    return near, alike


@lru_cache(maxsize=65536)
def _without_prefix(word: str) -> str:
    """Return `effective` for `ineffective`; empty where there is no such prefix."""
    match = _PREFIX.match(word)
    return word[match.end() :] if match and len(word) - match.end() >= 5 else ""


def _opposites(some: frozenset[str], others: frozenset[str]) -> int:
    """Count the words of one side that negate a word of the other by a prefix: `ineffective`."""
    return sum(_without_prefix(word) in others for word in some - others)


def _contradict(ours: list[Clause], theirs: list[Clause], freely: bool) -> bool:
    mine, yours = (sum(c.negations for c in side) for side in (ours, theirs))
    like = [frozenset().union(*(c.like_negations for c in side)) for side in (ours, theirs)]
    said = [frozenset().union(*(c.content for c in side)) for side in (ours, theirs)]
    opposites = _opposites(*said), _opposites(said[1], said[0])
    apart = abs(mine + opposites[0] - yours - opposites[1])
    if apart <= len(like[0] ^ like[1]) or (any(opposites) and apart % 2 == 0):  # not uncommon
        return False
    shared = len(said[0] & said[1]) + sum(opposites)
    alike = shared >= _WORDED_ALIKE * (len(said[0] | said[1]) - sum(opposites))
    return alike or (freely and not (mine and yours))
