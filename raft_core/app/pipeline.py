"""The pipeline, as a table of contents: which stages there are, and what each reads in a run.

The number of shards depends on the rows that `prepare` keeps. So a run makes `prepare` first, and
everything else is known from its artifact on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raft_core.app.document_settings import DocumentSettings
from raft_core.app.settings import Settings
from raft_core.data.records import read_jsonl
from raft_core.distill.config import DISTILL, PRUNE
from raft_core.documents.config import ASK, PAIRS, PASSAGES, VOTE
from raft_core.errors import InputError
from raft_core.evaluation.config import EVALUATE, RESPOND
from raft_core.evaluation.gate import require_readable
from raft_core.evaluation.promote import PROMOTE
from raft_core.evaluation.report_config import REPORT
from raft_core.evaluation.study.config import STUDY
from raft_core.execution.graph import Input, Node, ordered
from raft_core.execution.inputs import Named
from raft_core.execution.shards import WHOLE, Shard, shards_for
from raft_core.execution.stage import Stage, StageConfig
from raft_core.lineage.config import LINEAGE
from raft_core.refine.embed import EMBED
from raft_core.refine.filter import FILTER
from raft_core.refine.fuse import FUSE
from raft_core.refine.gather import GATHER, GatherStage
from raft_core.refine.prepare import PREPARE
from raft_core.refine.rewrite import REWRITE
from raft_core.store.artifacts import ArtifactRef

REFINEMENT = (PREPARE, REWRITE, EMBED, FILTER, FUSE, GATHER, LINEAGE)
TRAINING = (DISTILL, PRUNE)
EVALUATION = (RESPOND, EVALUATE, REPORT, PROMOTE, STUDY)
# They make a domain's rows; no model depends on their code but through these.
DOCUMENTS = (PASSAGES, ASK, VOTE, PAIRS)
STAGES: dict[str, Stage] = {
    stage.name: stage for stage in (*REFINEMENT, *TRAINING, *EVALUATION, *DOCUMENTS)
}
BASE = "base"


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
    """A whole run: `trained` and `evaluated` by method, the base among the evaluated.

    `nodes` are what the run is for; what they need is made too.
    """

    refined: Refined
    trained: Mapping[str, Node]
    evaluated: Mapping[str, Node]
    lineage: Node
    report: Node
    nodes: Sequence[Node]

    def until(self, stage: str | None) -> Sequence[Node]:
        """Return what a run makes that ends with a stage; None: all of it.

        Raises:
            InputError: the run has no such stage.
        """
        if stage is None:
            return self.nodes
        nodes = ordered(self.nodes)
        if not (found := [node for node in nodes if node.stage == stage]):
            known = ", ".join(dict.fromkeys(node.stage for node in nodes))
            raise InputError(f"--until {stage}: this run has no such stage; it has {known}")
        return found


def full_run(settings: Settings, prepare: Node, rows: int) -> Pipeline:
    """Refine, train every method, measure it and the base, and report.

    What no method learns from is not in the graph.

    Args:
        settings: what the run is made of.
        prepare: the first stage.
        rows: how many training rows it keeps.
    """
    refined = refine(settings, prepare, rows)
    base = evaluate(settings, BASE, prepare)
    trained, evaluated = {}, {BASE: base}
    for method in slowest_first(settings):
        trained[method] = train(settings, method, refined, after=(base,))
        evaluated[method] = evaluate(settings, method, prepare, trained[method])
    learned = {method.targets for method in settings.methods.values()}
    read: dict[str, Any] = {"prepare": prepare}
    every_row = dict(read)
    if learned & {"rewritten", "fused"}:
        read |= {"filter": refined.filter}
        every_row |= {"rewrite": refined.rewrites, "filter": refined.filter}
    if "fused" in learned:
        read |= {"fuse": refined.fuse}
        every_row |= {"fuse": refined.fusions}
    lineage = Node("lineage", "lineage", settings.lineage_stage(), every_row)
    read |= {"distill": trained, "evaluate": evaluated}
    report = Node("report", "report", settings.report_stage(), read)
    return Pipeline(refined, trained, evaluated, lineage, report, nodes=[report, lineage])


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
    start = {"prepare": prepare}
    rewrites = [_shard("rewrite", settings.rewrite_stage(shard), start, shard) for shard in shards]
    ahead = embed_ahead(settings, prepare, rewrites, shards)
    filtered = Node(
        "filter",
        "filter",
        settings.filter_stage(),
        {"prepare": prepare, "rewrite": rewrites},
        after=tuple(ahead),
    )
    kept = {"prepare": prepare, "filter": filtered}
    fusions = [_shard("fuse", settings.fuse_stage(shard), kept, shard) for shard in shards]
    fused = fusions[0]
    if len(fusions) > 1:
        fused = Node("gather", "gather", GatherStage(), {"prepare": prepare, "fuse": fusions})
    return Refined(prepare, rewrites, filtered, fusions, fused)


def embed_ahead(
    settings: Settings, prepare: Node, rewrites: Sequence[Node], shards: Sequence[Shard]
) -> list[Node]:
    """Embed what the filter compares as it comes, in a few stages at a time, where that pays."""
    if not settings.embeds_ahead():
        return []
    asked: list[tuple[str, Shard, dict[str, Node]]] = [("references", WHOLE, {"prepare": prepare})]
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
    inputs = {
        "raw": {"prepare": refined.prepare},
        "rewritten": {"prepare": refined.prepare, "filter": refined.filter},
        "fused": {"fuse": refined.fuse},
    }[settings.methods[method].targets]
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
    read: dict[str, Any] = {"prepare": prepare, "compared": compared}
    return Retraining(trained, compared, Node("promote", "promote", settings.promote_stage(), read))


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
    read: dict[str, Any] = {"passages": passages}
    asked: list[Node] = []
    voted: list[Node] = []
    for shard in shards_for(count, settings.ask.passages_per_shard):
        asked.append(_shard("ask", settings.ask_stage(shard), read, shard))
        voted.append(_shard("vote", settings.vote_stage(), read | {"ask": asked[-1]}, shard))
    return Node("pairs", "pairs", settings.pairs_stage(), read | {"ask": asked, "vote": voted})


def _shard(stage: str, config: StageConfig, inputs: Named[Input], shard: Shard) -> Node:
    return Node(stage, stage, config, inputs, part=_part(shard))


def _part(shard: Shard) -> str:
    return "" if shard.is_whole else f"{shard.index + 1}/{shard.of}"
