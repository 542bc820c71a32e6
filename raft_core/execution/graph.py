"""A run as a value: nodes, each a stage with its configuration and the nodes that it reads.

A graph knows nothing of who walks it: `run_graph` does it here, Prefect submits it, the dry run
prices it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from raft_core.config.runtime import RuntimeConfig
from raft_core.execution.execute import Execution, Made, execute
from raft_core.execution.inputs import Named, flat
from raft_core.execution.stage import Stage, StageConfig
from raft_core.store.artifacts import ArtifactRef, StageSpec

# More than run at once: a stage that waits for another run's lock keeps no other one from starting.
WAITING = 64


@dataclass(frozen=True, eq=False)
class Node:
    """One stage of a run.

    `name` is what people call it, `part` which of several shards it is. `inputs` are what it reads:
    under each name a node or an artifact, several in an order (shards), or several by name. `after`
    are the nodes that must have ended before it starts although it reads none of them. `check`
    looks at the artifact, new or found, and raises where nothing may be built on it.
    """

    stage: str
    name: str
    config: StageConfig
    inputs: Named[Input] = field(default_factory=dict)
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
        yield from (node for node in flat(self.inputs).values() if isinstance(node, Node))
        yield from self.after

    def read(self, made: Mapping[Node, ArtifactRef]) -> dict[str, ArtifactRef]:
        """Return its inputs, where `made` has the artifacts of the nodes that it reads."""
        inputs: dict[str, Input] = flat(self.inputs)
        return {n: made[each] if isinstance(each, Node) else each for n, each in inputs.items()}


Input = Node | ArtifactRef
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
    find: Callable[[StageSpec], ArtifactRef | None],
) -> dict[Node, StageSpec | None]:
    """Return every node's specification as far as it is known without making anything.

    A key is made of what a stage reads, so that behind an artifact that is not there yet no key
    can be known: None.

    Args:
        wanted: the nodes; what they need is told too.
        stages: all that there are, by name.
        runtime: how they would run.
        find: returns the artifact of a specification, None where the store has none.
    """
    refs: dict[Node, ArtifactRef] = {}
    specs: dict[Node, StageSpec | None] = {}
    for node in ordered(wanted):
        specs[node] = None
        if all(each in refs for each in flat(node.inputs).values() if isinstance(each, Node)):
            spec = stages[node.stage].spec(node.config, node.read(refs), runtime)
            specs[node], found = spec, find(spec)
            if found is not None:
                refs[node] = found
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
