"""The pipeline's graph: what each stage reads, and what stands in its way."""

from __future__ import annotations

import pytest

from raft_core.app.document_settings import load_document_settings
from raft_core.app.pipeline import (
    REFINEMENT,
    evaluate,
    full_run,
    pairs_of_documents,
    passages_node,
    prepare_node,
    retraining,
)
from raft_core.app.settings import Settings, load_settings
from raft_core.errors import InputError
from raft_core.execution.graph import Node, ordered
from raft_core.execution.inputs import flat
from raft_core.store.artifacts import ArtifactRef


@pytest.fixture(scope="module")
def settings() -> Settings:
    pruned = "methods.fapm={targets: raw, prune: {sparsity: 0.9}, learning_rate: 3.0e-4}"
    return load_settings("mini", "law", ["rewrite.rows_per_shard=30", pruned])


def by_label(wanted: list[Node]) -> dict[str, Node]:
    nodes = {node.label: node for node in ordered(wanted)}
    assert len(nodes) == len(ordered(wanted))
    return nodes


def reads(node: Node) -> dict[str, str]:
    inputs = flat(node.inputs)
    return {n: i.label if isinstance(i, Node) else i.path for n, i in inputs.items()}


def test_full_run_of_two_shards_reads_what_it_must(settings: Settings) -> None:
    nodes = by_label(full_run(settings, prepare_node(settings), 60).nodes)
    assert [label for label in nodes if label.startswith(("rewrite", "fuse"))] == [
        "rewrite 1/2",
        "rewrite 2/2",
        "fuse 1/2",
        "fuse 2/2",
    ]
    assert reads(nodes["filter"]) == {
        "prepare": "prepare",
        "rewrite.00000": "rewrite 1/2",
        "rewrite.00001": "rewrite 2/2",
    }
    assert reads(nodes["gather"]) == {
        "prepare": "prepare",
        "fuse.00000": "fuse 1/2",
        "fuse.00001": "fuse 2/2",
    }
    assert reads(nodes["distill raft"]) == {"fuse": "gather"}
    assert reads(nodes["distill sft_raw"]) == {"prepare": "prepare"}
    assert reads(nodes["distill sdft"]) == {"prepare": "prepare", "filter": "filter"}
    assert reads(nodes["respond base"]) == {"prepare": "prepare"}
    assert reads(nodes["respond fapm"]) == {"prepare": "prepare", "distill": "prune fapm"}
    assert reads(nodes["lineage"]) == {
        **reads(nodes["filter"]),
        **reads(nodes["gather"]),
        "filter": "filter",
    }


@pytest.mark.parametrize(
    ("methods", "unread"),
    [
        (["raft"], set()),
        (["sdft"], {"fuse 1/2", "fuse 2/2", "gather"}),
        (["sft_raw"], {"rewrite 1/2", "rewrite 2/2", "filter", "fuse 1/2", "fuse 2/2", "gather"}),
    ],
)
def test_full_run_makes_nothing_that_no_method_learns_from(
    settings: Settings, methods: list[str], unread: set[str]
) -> None:
    every = by_label(full_run(settings, prepare_node(settings), 60).nodes)
    few = settings.model_copy(update={"methods": {m: settings.methods[m] for m in methods}})
    nodes = by_label(full_run(few, prepare_node(few), 60).nodes)
    refining = {label for label in every if every[label].stage in {s.name for s in REFINEMENT}}
    assert refining - nodes.keys() == unread


def test_until_a_stage_ends_there_and_an_unknown_one_names_those_of_the_run(
    settings: Settings,
) -> None:
    run = full_run(settings, prepare_node(settings), 60)
    assert set(by_label(run.until("filter"))) == {
        "prepare", "rewrite 1/2", "rewrite 2/2", "filter",
    }  # fmt: skip
    assert run.until(None) == run.nodes
    with pytest.raises(InputError, match="--until rewrit: this run has no such stage; it has prep"):
        run.until("rewrit")


def test_full_run_no_method_trains_before_the_base_has_passed_the_gate(settings: Settings) -> None:
    nodes = by_label(full_run(settings, prepare_node(settings), 60).nodes)
    base = nodes["evaluate base"]
    assert base.check is not None
    trainings = [node for label, node in nodes.items() if label.startswith("distill ")]
    assert len(trainings) == len(settings.methods)
    assert all(node.after == (base,) for node in trainings)
    assert all(node.check is None for node in nodes.values() if node is not base)


def test_evaluate_of_a_model_on_its_own_needs_no_rows_and_no_gate(settings: Settings) -> None:
    scored = evaluate(settings, "", None)
    assert [node.label for node in ordered([scored])] == ["respond", "evaluate"]
    assert scored.check is None


def test_embedding_ahead_takes_turns_and_comes_before_the_filter() -> None:
    ahead = ["rewrite.rows_per_shard=20", "runtime.embed_ahead=true", "runtime.parallel_stages=2"]
    settings = load_settings("mini", "law", ahead)
    nodes = by_label(full_run(settings, prepare_node(settings), 60).nodes)
    embeds = [node for node in nodes.values() if node.stage == "embed"]
    assert [node.label for node in embeds] == [
        "embed references", "embed 1/3", "embed 2/3", "embed 3/3",
    ]  # fmt: skip
    assert nodes["filter"].after == tuple(embeds)
    assert [node.after for node in embeds] == [(), (), (embeds[0],), (embeds[1],)]


@pytest.mark.parametrize("known", [True, False])
def test_retraining_compares_both_models_on_todays_rows_and_on_accepted_ones(
    settings: Settings, known: bool
) -> None:
    refs = [ArtifactRef(stage=s, key="k", path=s) for s in ("accepted", "champion")]
    champion = (refs[0], refs[1]) if known else None
    run = retraining(settings, "raft", prepare_node(settings), 30, champion)
    compared = {"base.today", "challenger.today"}
    if known:
        compared |= {"champion.today", "champion.accepted", "challenger.accepted"}
    assert set(reads(run.promote)) == {"prepare", *(f"compared.{name}" for name in compared)}
    if known:
        answers = run.compared["challenger.accepted"].inputs["respond"]
        assert isinstance(answers, Node)
        assert reads(answers) == {"prepare": "accepted", "distill": "distill challenger"}


def test_documents_passages_are_voted_on_while_others_are_asked_about() -> None:
    settings = load_document_settings("mini", overrides=["ask.passages_per_shard=10"])
    passages = passages_node(settings)
    nodes = by_label([pairs_of_documents(settings, passages, 15)])
    assert reads(nodes["vote 2/2"]) == {"passages": "passages", "ask": "ask 2/2"}
    assert list(reads(nodes["pairs"])) == [
        "passages", "ask.00000", "ask.00001", "vote.00000", "vote.00001",
    ]  # fmt: skip
