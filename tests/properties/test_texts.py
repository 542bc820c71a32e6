"""Every subject on drawn texts: no error but its own, and time that grows as the text does."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings

from tests.properties.catalogue import SUBJECTS, Subject
from tests.properties.texts import FILLING, UNITS, nasty

GROWTH = 4
# Linear work grows by 4, sorting by a little more; quadratic by 16.
MOST_TIMES = 8.0
# Below that a figure is the clock's and the machine's.
FLOOR_SECONDS = 0.02


def read(subject: Subject, text: str, other: str) -> None:
    with suppress(*subject.declares):
        subject.call(text, other)


@pytest.mark.parametrize("name", SUBJECTS)
@settings(
    max_examples=40,
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


def seconds(
    call: Callable[[str, str], object], text: str, declares: tuple[type[Exception], ...]
) -> float:
    """The least of three, caches of texts left out by a different text each time."""
    taken = []
    for turn in range(3):
        started = time.process_time()
        with suppress(*declares):
            call(f"{turn} {text}", FILLING)
        taken.append(time.process_time() - started)
        if taken[-1] < FLOOR_SECONDS:
            break
    return min(taken)


def growth(subject: Subject, unit: str, longest: int | None = None) -> float:
    """Time of a text of `unit` in terms of that of one a quarter as long."""
    most = longest or subject.longest
    long = seconds(subject.call, unit * (most // len(unit)), subject.declares)
    if long < FLOOR_SECONDS:
        return 1.0
    short = seconds(subject.call, unit * (most // GROWTH // len(unit)), subject.declares)
    return long / max(short, FLOOR_SECONDS / MOST_TIMES)


@pytest.mark.parametrize("name", SUBJECTS)
def test_text_four_times_as_long_takes_about_four_times_as_long(name: str) -> None:
    gc.collect()
    slow = {}
    for unit in UNITS:
        times = growth(SUBJECTS[name], unit)
        if times > MOST_TIMES:  # once more: another process may have had the processor
            times = min(times, growth(SUBJECTS[name], unit))
        if times > MOST_TIMES:
            slow[unit] = round(times, 1)
    assert not slow
