"""A deadline leaves nothing behind, whenever its alarm comes."""

from __future__ import annotations

import signal
import time
from contextlib import suppress

import pytest

from raft_core.execution.deadline import OverdueError, deadline


def test_deadline_interrupts_what_does_not_end() -> None:
    with pytest.raises(OverdueError, match=r"longer than 0\.05 s"), deadline(0.05):
        time.sleep(60)


def test_deadline_gives_the_signal_back_however_late_its_alarm_comes() -> None:
    before, left = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    for turn in range(20_000):
        with suppress(OverdueError), deadline(20e-6):
            for _ in range(turn % 40):
                pass
        assert signal.getsignal(signal.SIGALRM) is before
    assert (signal.getitimer(signal.ITIMER_REAL)[0] > 0) == (left[0] > 0)


def test_deadline_inside_another_leaves_it_its_rest() -> None:
    with deadline(100):
        with deadline(50):
            pass
        left, _ = signal.getitimer(signal.ITIMER_REAL)
    assert 90 < left <= 100
