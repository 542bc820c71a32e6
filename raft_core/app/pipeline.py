"""The pipeline, as a table of contents: which stages a run has, and what each reads.

The number of shards depends on the rows that `prepare` keeps. So a run makes `prepare` first, and
everything else is known from its artifact on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raft_core.app.document_settings import DocumentSettings
from raft_core.app.settings import Settings
from raft_core.config.base import FrozenConfig
from raft_core.data.records import read_jsonl
from raft_core.evaluation.gate import require_readable
from raft_core.execution.graph import Node
from raft_core.execution.shards import WHOLE, Shard, shards_for
from raft_core.refine.gather import SHARD, GatherStage
from raft_core.store.artifacts import ArtifactRef

BASE = "base"
Input = Node | ArtifactRef


@dataclass(frozen=True)
class Refined:
    """The data stages: what the methods learn from."""

    prepare: Node
    rewrites: Sequence[Node]
    filter: Node
    fusions: Sequence[Node]
    fuse: Node


@dataclass(frozen=True)
class Pipeline:
    """A whole run: `trained` and `evaluated` by method, the base among the evaluated."""

    refined: Refined
    trained: Mapping[str, Node]
    evaluated: Mapping[str, Node]
    lineage: Node
    report: Node

    @property
    def nodes(self) -> list[Node]:
        """What a run is for."""
        return [self.report, self.lineage]


def full_run(settings: Settings, prepare: Node, rows: int) -> Pipeline:
    """Refine, train every method, measure it and the base, and report.

    Args:
        settings: what the run is made of.
        prepare: the first stage.
        rows: how many training rows it keeps.
    """
    refined = refine(settings, prepare, rows)
    base = evaluate(settings, BASE, prepare)
    trained, evaluated = {}, {}
    for method in slowest_first(settings):
        trained[method] = train(settings, method, refined, after=(base,))
        evaluated[method] = evaluate(settings, method, prepare, trained[method])
    lineage = Node("lineage", "lineage", settings.lineage_stage(), _every_row(refined))
    read: dict[str, Input] = {"prepare": prepare, "filter": refined.filter, "fuse": refined.fuse}
    read |= {f"evaluate.{BASE}": base}
    read |= {f"distill.{method}": node for method, node in trained.items()}
    read |= {f"evaluate.{method}": node for method, node in evaluated.items()}
    report = Node("report", "report", settings.report_stage(), read)
    return Pipeline(refined, trained, {BASE: base} | evaluated, lineage, report)


def slowest_first(settings: Settings) -> list[str]:
    """Return the methods; those with a teacher take longest: started first, all end earlier."""
    methods = settings.methods
    return sorted(methods, key=lambda name: not methods[name].samples)


def prepare_node(settings: Settings) -> Node:
    """Return the first stage of every run."""
    return Node("prepare", "prepare", settings.prepare_stage())


def training_rows(prepared: ArtifactRef) -> int:
    """Return how many rows `prepare` has left to train with."""
    return sum(1 for _ in read_jsonl(prepared.folder / "train.jsonl"))


def refine(settings: Settings, prepare: Node, rows: int) -> Refined:
    """Rewrite, filter and fuse one domain's rows, in shards."""
    shards = shards_for(rows, settings.rewrite.rows_per_shard)
    start: dict[str, Input] = {"prepare": prepare}
    rewrites = [_shard("rewrite", settings.rewrite_stage(shard), start, shard) for shard in shards]
    ahead = embed_ahead(settings, prepare, rewrites, shards)
    filtered = Node(
        "filter",
        "filter",
        settings.filter_stage(),
        start | numbered("rewrite.", rewrites),
        after=tuple(ahead),
    )
    kept = start | {"filter": filtered}
    fusions = [_shard("fuse", settings.fuse_stage(shard), kept, shard) for shard in shards]
    fused = fusions[0]
    if len(fusions) > 1:
        fused = Node("gather", "gather", GatherStage(), start | numbered(SHARD, fusions))
    return Refined(prepare, rewrites, filtered, fusions, fused)


def embed_ahead(
    settings: Settings, prepare: Node, rewrites: Sequence[Node], shards: Sequence[Shard]
) -> list[Node]:
    """Embed what the filter compares as it comes, in a few stages at a time, where that pays."""
    if not settings.embeds_ahead():
        return []
    asked: list[tuple[str, Shard, dict[str, Input]]] = [("references", WHOLE, {"prepare": prepare})]
    for shard, rewritten in zip(shards, rewrites, strict=True):
        asked.append((_part(shard), shard, {"prepare": prepare, "rewrite": rewritten}))
    nodes: list[Node] = []
    for place, (part, shard, inputs) in enumerate(asked):
        first = place - settings.runtime.parallel_stages
        before = tuple(nodes[first : first + 1]) if first >= 0 else ()
        nodes.append(Node("embed", "embed", settings.embed_stage(shard), inputs, before, part))
    return nodes


def train(
    settings: Settings,
    method: str,
    refined: Refined,
    *,
    name: str = "",
    after: tuple[Node, ...] = (),
) -> Node:
    """Train a method on the answers that it learns, and prune the result where it wants that."""
    name = name or method
    answers: Mapping[str, Input] = {
        "raw": {},
        "rewritten": {"filter": refined.filter},
        "fused": {"fuse": refined.fuse},
    }[settings.methods[method].targets]
    inputs = {"prepare": refined.prepare, **answers}
    trained = Node("distill", f"distill {name}", settings.distill_stage(method), inputs, after)
    pruning = settings.prune_stage(method)
    if pruning is None:
        return trained
    return Node("prune", f"prune {name}", pruning, {"distill": trained})


def evaluate(
    settings: Settings, name: str, prepare: Input | None, trained: Input | None = None
) -> Node:
    """Have a model answer the benchmarks, and score it; without one that was trained the engine's.

    The base must be able to read references under the teacher's template. `prepare` is None where
    no benchmark is the domain's.
    """
    own = trained is not None
    start: dict[str, Input] = {} if prepare is None else {"prepare": prepare}
    asked = start | ({} if trained is None else {"distill": trained})
    respond = Node("respond", f"respond {name}".strip(), settings.respond_stage(trained=own), asked)
    return Node(
        "evaluate",
        f"evaluate {name}".strip(),
        settings.evaluate_stage(trained=own),
        start | {"respond": respond},
        check=(lambda scored: require_gate(settings, scored)) if name == BASE else None,
    )


def require_gate(settings: Settings, evaluated: ArtifactRef) -> float:
    """Return the base's score under the teacher's template, if it is high enough.

    Raises:
        GateError: it is not.
    """
    scores = json.loads((evaluated.folder / "scores.json").read_text())
    return require_readable(scores, settings.gate, settings.base.path)


@dataclass(frozen=True)
class Retraining:
    """A challenger beside the model in use: `compared` are the evaluations that decide."""

    trained: Node
    compared: Mapping[str, Node]
    promote: Node


def retraining(
    settings: Settings,
    method: str,
    prepare: Node,
    rows: int,
    champion: tuple[ArtifactRef, ArtifactRef] | None,
) -> Retraining:
    """Train a challenger, and compare it with the champion on today's rows and on accepted ones.

    Args:
        settings: what the run is made of.
        method: the one that is trained.
        prepare: the first stage.
        rows: how many training rows it keeps.
        champion: the rows that the model in use was accepted on, and the model.
    """
    refined = refine(settings, prepare, rows)
    base = evaluate(settings, BASE, prepare)
    trained = train(settings, method, refined, name="challenger", after=(base,))
    compared = {
        "base.today": base,
        "challenger.today": evaluate(settings, "challenger", prepare, trained),
    }
    if champion is not None:
        accepted, model = champion
        compared |= {
            "champion.today": evaluate(settings, "champion", prepare, model),
            "champion.accepted": evaluate(settings, "champion, accepted rows", accepted, model),
            "challenger.accepted": evaluate(
                settings, "challenger, accepted rows", accepted, trained
            ),
        }
    inputs: dict[str, Input] = {"prepare": prepare, **compared}
    return Retraining(
        trained, compared, Node("promote", "promote", settings.promote_stage(), inputs)
    )


def passages_node(settings: DocumentSettings) -> Node:
    """Return the first stage of a preparation of documents."""
    return Node("passages", "passages", settings.passages_stage())


def count_passages(passages: ArtifactRef) -> int:
    """Return how many passages there are to ask about."""
    return sum(1 for _ in read_jsonl(passages.folder / "passages.jsonl"))


def pairs_of_documents(settings: DocumentSettings, passages: Node, count: int) -> Node:
    """Ask about passages, vote on the answers, and keep the pairs that models agree on.

    What is asked about some passages is voted on while others are asked.
    """
    read: dict[str, Input] = {"passages": passages}
    votes: dict[str, Input] = {}
    for shard in shards_for(count, settings.ask.passages_per_shard):
        asked = _shard("ask", settings.ask_stage(shard), {"passages": passages}, shard)
        voted = _shard("vote", settings.vote_stage(), {"passages": passages, "ask": asked}, shard)
        votes |= {f"ask.{shard.index:05d}": asked, f"vote.{shard.index:05d}": voted}
    return Node("pairs", "pairs", settings.pairs_stage(), read | votes)


def numbered(name: str, nodes: Sequence[Node]) -> dict[str, Input]:
    """Return shards as inputs, in their order."""
    return {f"{name}{number:05d}": node for number, node in enumerate(nodes)}


def _every_row(refined: Refined) -> dict[str, Input]:
    """What became of every row stands in these."""
    read: dict[str, Input] = {"prepare": refined.prepare, "filter": refined.filter}
    return read | numbered("rewrite.", refined.rewrites) | numbered(SHARD, refined.fusions)


def _shard(stage: str, config: FrozenConfig, inputs: Mapping[str, Input], shard: Shard) -> Node:
    return Node(stage, stage, config, inputs, part=_part(shard))


def _part(shard: Shard) -> str:
    return "" if shard.is_whole else f"{shard.index + 1}/{shard.of}"
