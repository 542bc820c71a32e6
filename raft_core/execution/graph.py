"""A run as a value: nodes, each a stage with its configuration and the nodes that it reads.

A graph knows nothing of who walks it: `run_graph` does it here, Prefect submits it, the dry run
prices it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from raft_core.config.base import FrozenConfig
from raft_core.config.runtime import RuntimeConfig
from raft_core.execution.execute import Execution, Made, execute
from raft_core.execution.stage import Stage
from raft_core.store.artifacts import ArtifactRef, StageSpec

# More than run at once: a stage that waits for another run's lock keeps no other one from starting.
WAITING = 64


@dataclass(frozen=True, eq=False)
class Node:
    """One stage of a run.

    `name` is what people call it, `part` which of several shards it is. `inputs` are what it reads,
    `after` what must have ended before it starts although it reads none of it. `check` looks at the
    artifact, new or found, and raises where nothing may be built on it.
    """

    stage: str
    name: str
    config: FrozenConfig
    inputs: Mapping[str, Node | ArtifactRef] = field(default_factory=dict)
    after: tuple[Node, ...] = ()
    part: str = ""
    check: Callable[[ArtifactRef], object] | None = None

    @property
    def label(self) -> str:
        """The name, with the shard where there are several."""
        return f"{self.name} {self.part}" if self.part else self.name

    @property
    def before(self) -> Iterator[Node]:
        """Every node that must have ended before this one starts."""
        yield from (node for node in self.inputs.values() if isinstance(node, Node))
        yield from self.after

    def read(self, made: Mapping[Node, ArtifactRef]) -> dict[str, ArtifactRef]:
        """Return its inputs, where `made` has the artifacts of the nodes that it reads."""
        return {
            name: made[node] if isinstance(node, Node) else node
            for name, node in self.inputs.items()
        }


Artifacts = dict[Node, ArtifactRef]


def ordered(wanted: Sequence[Node]) -> list[Node]:
    """Return the wanted nodes with all that they need, each after those that come before it."""
    found: dict[Node, None] = {}
    for node in wanted:
        _add(node, found)
    return list(found)


def _add(node: Node, found: dict[Node, None]) -> None:
    if node not in found:
        for needed in node.before:
            _add(needed, found)
        found[node] = None


def predicted(
    wanted: Sequence[Node],
    stages: Mapping[str, Stage],
    runtime: RuntimeConfig,
    place: Callable[[StageSpec], Path],
) -> dict[Node, StageSpec]:
    """Return every node's specification without making anything.

    A key is made of a stage's settings and of the keys before it, so no artifact is needed to know
    it. `place` says where an artifact lies, or would.
    """
    refs: dict[Node, ArtifactRef] = {}
    specs: dict[Node, StageSpec] = {}
    for node in ordered(wanted):
        spec = specs[node] = stages[node.stage].spec(node.config, node.read(refs), runtime)
        refs[node] = ArtifactRef(stage=spec.stage, key=spec.key, path=str(place(spec)))
    return specs


def run_node(
    run: Execution, node: Node, inputs: Mapping[str, ArtifactRef], label: str = ""
) -> Made:
    """Return a node's artifact, and whether the store held it; its check has passed.

    Raises:
        RaftError: the stage failed, or its check.
    """
    with run.noting_failure():
        spec = run.stages[node.stage].spec(node.config, inputs, run.runtime)
        made = execute(run, spec, label or node.label)
        if node.check is not None:
            node.check(made.artifact)
    return made


def run_graph(
    run: Execution, wanted: Sequence[Node], made: Artifacts | None = None, prefix: str = ""
) -> Artifacts:
    """Make the artifacts of all nodes, side by side where nothing stands between them.

    Args:
        run: what the stages share.
        wanted: the nodes; what they need is made too.
        made: artifacts that are there already.
        prefix: stands before the nodes' labels.

    Raises:
        RaftError: the first failure, once all that ran has ended.
    """
    known: Artifacts = dict(made or {})
    futures: dict[Node, Future[ArtifactRef]] = {}

    def make(node: Node) -> ArtifactRef:
        before = {each: futures[each].result() for each in node.before if each in futures}
        label = f"{prefix} {node.label}".strip()
        return run_node(run, node, node.read(known | before), label).artifact

    # A node is submitted after those before it, so that waiting ones never fill the pool.
    with ThreadPoolExecutor(WAITING) as pool:
        for node in ordered(wanted):
            if node not in known:
                futures[node] = pool.submit(make, node)
    for error in run.failures:
        raise error
    return known | {node: future.result() for node, future in futures.items()}
