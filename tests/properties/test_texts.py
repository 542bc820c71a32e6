"""Every subject on drawn texts: no error but its own, and time that grows as the text does."""

from __future__ import annotations

import gc
import time
from contextlib import suppress
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings

from tests.properties.catalogue import SUBJECTS, Subject
from tests.properties.texts import FILLING, UNITS, nasty

GROWTH = 4
# Linear work grows by 4, sorting by a little more; quadratic by 16.
MOST_TIMES = 8.0
# Below that a figure is the clock's and the machine's.
FLOOR_SECONDS = 0.02
TURNS = count()
# Here every subject is given some of the units; `make fuzz` gives it all.
SOME = 8
LINEAR = [name for name, subject in SUBJECTS.items() if subject.linear]


def read(subject: Subject, text: str, other: str) -> None:
    with suppress(*subject.declares):
        subject.call(text, other)


@pytest.mark.parametrize("name", SUBJECTS)
@settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(text=nasty(), other=nasty())
def test_text_of_any_kind_raises_nothing_but_what_is_declared(
    name: str, text: str, other: str
) -> None:
    read(SUBJECTS[name], text, other)


def seconds(subject: Subject, text: str) -> float:
    """The least of three; every text is a new one, which no cache knows."""
    taken = []
    for _ in range(3):
        new = f"{next(TURNS)} {text}"
        started = time.process_time()
        read(subject, new, FILLING)
        taken.append(time.process_time() - started)
        if taken[-1] < FLOOR_SECONDS:
            break
    return min(taken)


def growth(subject: Subject, unit: str) -> float:
    """Time of a text of `unit` in terms of that of one a quarter as long."""
    long = seconds(subject, unit * (subject.longest // len(unit)))
    if long < FLOOR_SECONDS:
        return 1.0
    short = seconds(subject, unit * (subject.longest // GROWTH // len(unit)))
    return long / max(short, FLOOR_SECONDS / MOST_TIMES)


def too_slow(subject: Subject, unit: str) -> bool:
    """Whether it grows too much twice: another process may have had the processor once."""
    return growth(subject, unit) > MOST_TIMES and growth(subject, unit) > MOST_TIMES


@pytest.mark.parametrize("name", LINEAR)
def test_text_four_times_as_long_takes_about_four_times_as_long(name: str) -> None:
    gc.collect()
    first = LINEAR.index(name) % SOME
    assert [unit for unit in UNITS[first::SOME] if too_slow(SUBJECTS[name], unit)] == []


def test_growth_of_a_quadratic_reader_is_seen() -> None:
    quadratic = Subject(lambda text, _: [text.count(sign) for sign in text])
    assert too_slow(quadratic, "ab")
