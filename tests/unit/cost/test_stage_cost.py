"""When stages end that wait for each other."""

from __future__ import annotations

from raft_core.cost.stage_cost import StageCost, wall_seconds


def stage(label: str, seconds: float, *after: str, **changes: bool | int) -> StageCost:
    return StageCost(label, label, after, seconds=seconds, **changes)  # type: ignore[arg-type]


def test_one_slot_sums_all() -> None:
    assert wall_seconds([stage("a", 1), stage("b", 2, "a"), stage("c", 4, "a")], 1) == 7


def test_two_slots_run_what_does_not_wait_side_by_side() -> None:
    # a ends at 1, then b and c side by side, d after both
    stages = [stage("a", 1), stage("b", 2, "a"), stage("c", 4, "a"), stage("d", 1, "b", "c")]
    assert wall_seconds(stages, 2) == 6


def test_shards_take_slots_of_their_own() -> None:
    # four shards of 2 s in two slots
    assert wall_seconds([stage("a", 8, shards=4)], 2) == 4


def test_kept_stage_takes_no_time() -> None:
    assert wall_seconds([stage("a", 5, kept=True), stage("b", 2, "a")], 1) == 2


def test_light_stage_needs_no_slot() -> None:
    assert wall_seconds([stage("a", 5), stage("b", 5, light=True)], 1) == 5
