"""What stages asked of their models, summed over a flow run."""

from __future__ import annotations

from pathlib import Path

from raft_core.app.settings import load_settings
from raft_core.store.artifacts import StageSpec, Store
from tasks.generations import Generations
from tasks.processes import StageProcesses
from tasks.silent import SilentDisplay, SilentTracker
from tasks.slots import Slots
from tasks.stage import RunContext, handle


def spec(stage: str, shard: int = 0) -> StageSpec:
    return StageSpec(stage=stage, version=1, config={}, identity={"shard": shard})


def event(cached: int, generated: int) -> dict[str, object]:
    total = cached + generated
    counts = {"requests": total, "cached": cached, "generated": generated}
    return {"kind": "generation", **counts}


def test_generations_latest_event_of_a_stage_counts_and_shards_add_up() -> None:
    generations = Generations()
    generations.note(spec("rewrite"), event(100, 0))
    generations.note(spec("rewrite"), event(100, 12))
    generations.note(spec("rewrite", shard=1), event(20, 8))
    generations.note(spec("fuse"), event(0, 5))
    assert generations.by_stage() == {
        "rewrite": {"generated": 20, "cached": 120},
        "fuse": {"generated": 5, "cached": 0},
    }


def test_generation_event_is_counted_for_the_flow_and_becomes_metrics(tmp_path: Path) -> None:
    logged: dict[str, float] = {}

    class Tracked:
        def live_metrics(self, step: int, values: dict[str, float]) -> None:
            logged.update(values)

    settings = load_settings("mini", "law")
    context = RunContext(
        settings=settings,
        runtime=settings.runtime,
        store=Store(tmp_path),
        tracker=SilentTracker(),
        display=SilentDisplay(),
        processes=StageProcesses(settings.runtime),
        slots=Slots(),
    )
    handle(event(220, 20), "rewrite", spec("rewrite"), context, Tracked())  # type: ignore[arg-type]
    assert logged == {
        "generation.requests": 240, "generation.cached": 220, "generation.generated": 20,
    }  # fmt: skip
    again = context.for_settings(settings)
    assert again.generations.by_stage() == {"rewrite": {"generated": 20, "cached": 220}}
