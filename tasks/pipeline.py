"""A graph of stages as Prefect tasks: one generic task, submitted for every node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, wait
from prefect.states import Completed, State

from raft_core.app.settings import Settings
from raft_core.execution.execute import Execution
from raft_core.execution.graph import Artifacts, Node, ordered, run_node
from raft_core.store.artifacts import ArtifactRef

# The store is the cache: see raft_core/execution/execute.py.
STAGE_TASK: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}


class Job:
    """One node of a run; unlike a dataclass, nothing that Prefect looks into for futures."""

    def __init__(self, run: Execution, node: Node) -> None:
        self._run, self._node = run, node

    def __call__(self, inputs: Mapping[str, ArtifactRef]) -> State:
        """Return the artifact as a state, named Cached where the store held it."""
        made = run_node(self._run, self._node, inputs)
        message = f"{self._node.stage} {made.artifact.key}"
        return Completed(
            name="Cached" if made.cached else None, data=made.artifact, message=message
        )


@task(task_run_name="{label}", **STAGE_TASK)
def make(job: Job, inputs: dict[str, ArtifactRef], label: str) -> State:
    """Make, or find, the artifact of one stage."""
    return job(inputs)


def submit_graph(
    run: Execution, wanted: Sequence[Node], made: Artifacts | None = None
) -> Artifacts:
    """Make the artifacts of all nodes as Prefect tasks; what they need is made too.

    Raises:
        RaftError: the first failure, once every stage has ended.
    """
    known: Artifacts = dict(made or {})
    futures: dict[Node, PrefectFuture[Any]] = {}
    for node in ordered(wanted):
        if node not in known:
            inputs: Any = node.read({**known, **futures})  # type: ignore[dict-item]
            after = [futures[each] for each in node.after if each in futures]
            submitted = make.with_options(name=node.stage)
            futures[node] = submitted.submit(Job(run, node), inputs, node.label, wait_for=after)
    wait(list(futures.values()))
    for error in run.failures:
        raise error
    return known | {node: future.result() for node, future in futures.items()}


def warn_judge_overlap(run: Execution, settings: Settings) -> None:
    """Say at the start of a run which judges had a part in what they judge."""
    for warning in settings.panel_warnings():
        run.tell("note", f"Note: {warning}.")
