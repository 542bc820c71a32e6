"""What stages asked of their models, summed over a flow run."""

from __future__ import annotations

from raft_core.app.pipeline import STAGES
from raft_core.config.runtime import RuntimeConfig
from raft_core.execution.execute import Execution
from raft_core.execution.generations import Generations
from raft_core.execution.slots import Slots
from raft_core.store.artifacts import StageSpec


def spec(stage: str, shard: int = 0) -> StageSpec:
    return StageSpec(stage=stage, version=1, config={}, identity={"shard": shard})


def event(cached: int, generated: int) -> dict[str, object]:
    total = cached + generated
    counts = {"requests": total, "cached": cached, "generated": generated}
    return {"kind": "generation", **counts}


def test_generations_latest_event_of_a_stage_counts_and_shards_add_up() -> None:
    generations = Generations()
    generations.heard("x", spec("rewrite"), event(100, 0))
    generations.heard("x", spec("rewrite"), event(100, 12))
    generations.heard("x", spec("rewrite", shard=1), event(20, 8))
    generations.heard("x", spec("fuse"), event(0, 5))
    assert generations.by_stage() == {
        "rewrite": {"generated": 20, "cached": 120},
        "fuse": {"generated": 5, "cached": 0},
    }


def test_generation_event_is_counted_and_others_are_not() -> None:
    generations = Generations()
    run = Execution(
        runtime=RuntimeConfig(),
        store=None,
        stages=STAGES,
        processes=None,
        slots=Slots(),
        listeners=(generations,),
    )
    run.tell("heard", "rewrite", spec("rewrite"), event(220, 20))
    run.tell("heard", "rewrite", spec("rewrite"), {"kind": "progress", "done": 1, "total": 2})
    assert generations.by_stage() == {"rewrite": {"generated": 20, "cached": 220}}
