"""A graph's order, what it is walked by, and what a failure stops."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from raft_core.app.pipeline import STAGES
from raft_core.config.runtime import RuntimeConfig
from raft_core.errors import StageError, UnwellError
from raft_core.execution import graph
from raft_core.execution.execute import Execution, Failures, Made
from raft_core.execution.graph import Node, ordered, predicted, run_graph
from raft_core.execution.slots import Slots
from raft_core.refine.gather import GatherStage
from raft_core.store.artifacts import ArtifactRef, StageSpec

Making = Callable[[Execution, StageSpec, str], Made]


def node(name: str, *inputs: Node, after: tuple[Node, ...] = (), **how: Any) -> Node:
    return Node("gather", name, GatherStage(), {"fuse": inputs}, after, **how)


@pytest.fixture
def run() -> Execution:
    return Execution(
        runtime=RuntimeConfig(device="cpu"),
        store=None,
        stages=STAGES,
        processes=None,
        slots=Slots(),
    )


def making(monkeypatch: pytest.MonkeyPatch, make: Callable[[str], None]) -> list[str]:
    """Stages that do what `make` does with their label; returns the labels in their order."""
    labels: list[str] = []

    def execute(run: Execution, spec: StageSpec, label: str) -> Made:
        if run.failures:
            raise StageError("not started")
        make(label)
        labels.append(label)
        return Made(ArtifactRef(stage=spec.stage, key=spec.key, path=label), cached=False)

    monkeypatch.setattr(graph, "execute", execute)
    return labels


def test_ordered_everything_comes_after_what_it_needs_and_once() -> None:
    first = node("first")
    left, right = node("left", first), node("right", first)
    late = node("late", left, after=(right,))
    unread = node("unread", first)
    assert ordered([late, left]) == [first, left, right, late]
    assert unread not in ordered([late])


def test_run_graph_stages_without_a_way_between_them_run_side_by_side(
    run: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(2, timeout=20)
    making(monkeypatch, lambda label: together.wait() if label in ("left", "right") else None)
    first = node("first")
    last = node("last", node("left", first), node("right", first))
    made = run_graph(run, [last])
    assert [each.name for each in made] == ["first", "left", "right", "last"]


def test_run_graph_makes_nothing_that_is_there(
    run: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = making(monkeypatch, lambda _: None)
    first = node("first")
    last = node("last", first)
    there = {first: ArtifactRef(stage="gather", key="k", path="there")}
    assert run_graph(run, [last], there, prefix="cell")[first].path == "there"
    assert labels == ["cell last"]


def test_run_graph_failure_is_raised_and_what_needs_the_stage_does_not_start(
    run: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(label: str) -> None:
        if label == "bad":
            raise UnwellError("it repeats itself")

    labels = making(monkeypatch, make)
    bad = node("bad", node("first"))
    with pytest.raises(UnwellError, match="repeats itself"):
        run_graph(run, [node("last", bad)])
    assert labels == ["first"]


def test_run_graph_check_of_an_artifact_stops_what_is_built_on_it(
    run: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(found: ArtifactRef) -> None:
        raise StageError(f"{found.path} is not good enough")

    labels = making(monkeypatch, lambda _: None)
    base = node("base", check=refuse)
    with pytest.raises(StageError, match="base is not good enough"):
        run_graph(run, [node("trained", after=(base,))])
    assert labels == ["base"]


def test_failure_of_a_run_stops_its_part_and_not_the_other_way_round() -> None:
    whole = Failures()
    part = Failures(whole)
    part.append(StageError("of the part"))
    assert part
    assert not whole
    other = Failures(whole)
    whole.append(StageError("of the run"))
    assert other
    assert list(other) == []


def test_predicted_keys_are_those_of_the_artifacts_that_a_run_makes(
    run: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    making(monkeypatch, lambda _: None)
    last = node("last", node("first"))
    made = run_graph(run, [last])
    there = {ref.key: ref for ref in made.values()}
    specs = predicted([last], STAGES, run.runtime, lambda spec: there.get(spec.key))
    assert {each: spec and spec.key for each, spec in specs.items()} == {
        each: ref.key for each, ref in made.items()
    }


def test_predicted_no_key_is_known_behind_what_is_not_made_yet(run: Execution) -> None:
    first = node("first")
    last = node("last", first)
    specs = predicted([last], STAGES, run.runtime, lambda spec: None)
    assert specs[first] is not None
    assert specs[last] is None
