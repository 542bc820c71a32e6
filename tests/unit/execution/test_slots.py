"""Who gets a slot first."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from raft_core.app.pipeline import STAGES
from raft_core.app.settings import load_settings
from raft_core.execution.shards import WHOLE
from raft_core.execution.slots import LONG, SHARED, SHORT, SUCCESSION_SECONDS, Slots
from raft_core.store.artifacts import ArtifactRef


class Waiter(threading.Thread):
    """Takes a slot and notes its name in the order in which it got one."""

    def __init__(self, slots: Slots, rank: int, name: str, got: list[str]) -> None:
        super().__init__(daemon=True)
        self._slots, self._rank, self._label, self._got = slots, rank, name, got

    def run(self) -> None:
        with self._slots.hold(self._rank):
            self._got.append(self._label)


def wait_until_all_ask(slots: Slots, count: int) -> None:
    with slots._changed:
        while len(slots._waiting) < count:
            slots._changed.wait(0.01)


@contextmanager
def queue(slots: Slots, asking: list[tuple[str, int]], got: list[str]) -> Iterator[None]:
    """All of them wait, in this order, while the block runs."""
    waiters = []
    for name, rank in asking:
        waiters.append(Waiter(slots, rank, name, got))
        waiters[-1].start()
        wait_until_all_ask(slots, len(waiters))
    yield
    for waiter in waiters:
        waiter.join(20)
        assert not waiter.is_alive()


def test_slots_lowest_rank_goes_first_and_equal_ones_in_their_order() -> None:
    slots, got = Slots(1), list[str]()
    asking = [("a", SHORT), ("b", SHORT), ("teacher", LONG), ("fuse", SHARED)]
    holder = slots.hold(LONG)
    holder.__enter__()
    with queue(slots, asking, got):
        assert got == []
        holder.__exit__(None, None, None)
    assert got == ["fuse", "teacher", "a", "b"]


def test_slots_after_a_shared_stage_its_successor_goes_before_those_that_waited() -> None:
    clock = [0.0]
    slots, got = Slots(1, lambda: clock[0]), list[str]()
    holder = slots.hold(SHARED)
    holder.__enter__()
    with queue(slots, [("waited", SHORT)], got):
        holder.__exit__(None, None, None)
        successor = Waiter(slots, LONG, "successor", got)
        successor.start()
        successor.join(20)
        assert got == ["successor"]
        clock[0] = SUCCESSION_SECONDS
        with slots._changed:
            slots._changed.notify_all()
    assert got == ["successor", "waited"]


def test_slots_two_hold_at_once_and_an_error_frees() -> None:
    slots = Slots(2)
    with slots.hold(), pytest.raises(ValueError, match="inside"), slots.hold():
        raise ValueError("inside")
    with slots.hold(), slots.hold():
        pass


def made(stage: str) -> ArtifactRef:
    return ArtifactRef(stage=stage, key="k", path="/nowhere")


@pytest.mark.parametrize(
    ("stage", "of", "rank"),
    [
        ("rewrite", None, SHARED),
        ("respond", None, SHARED),
        ("respond", "distill", SHORT),
        ("distill", "sft_raw", SHORT),
        ("distill", "raft", LONG),
    ],
)
def test_rank_of_stages(stage: str, of: str | None, rank: int) -> None:
    settings = load_settings("mini", "law")
    configs: dict[str, Any] = {
        "rewrite": lambda: settings.rewrite_stage(WHOLE),
        "respond": lambda: settings.respond_stage(trained=of is not None),
        "distill": lambda: settings.distill_stage(of or ""),
    }
    inputs = {"fuse": made("fuse")} if of == "raft" else {"prepare": made("prepare")}
    inputs |= {"distill": made("distill")} if of == "distill" else {}
    spec = STAGES[stage].spec(configs[stage](), inputs, settings.runtime)
    assert STAGES[stage].rank(spec) == rank
