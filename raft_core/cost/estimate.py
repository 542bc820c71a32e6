"""A run's cost, put together: what `raft run --dry-run` tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from raft_core.app.checks import require_endpoint_keys
from raft_core.app.model_checks import WRITERS, check_models, models_of
from raft_core.app.pipeline import BASE, full_run, prepare_node, slowest_first
from raft_core.app.settings import Settings
from raft_core.cost.cached import Specs, folder_of, is_kept, run_specs, store_root
from raft_core.cost.completions import answers_found, rewrites_found
from raft_core.cost.device import Device, device_of
from raft_core.cost.distilling import distilling_costs
from raft_core.cost.evaluating import evaluating_costs, measured
from raft_core.cost.fitting import disk_bytes, warnings_of
from raft_core.cost.models import KnownModel, known_model
from raft_core.cost.rates import LIGHT_SECONDS
from raft_core.cost.refining import refining_costs
from raft_core.cost.rows import DomainRows, assumed_rows, expected_rows, prepared_rows
from raft_core.cost.situation import Situation
from raft_core.cost.stage_cost import StageCost, wall_seconds
from raft_core.errors import InputError
from raft_core.execution.graph import ordered
from raft_core.refine.embed import EMBED

ANSWERS = {"raw": "prepare", "rewritten": "filter"}


@dataclass(frozen=True)
class Estimate:
    """`stops` would end a run at once; `warnings` are what will not fit, `notes` what is assumed.

    `seconds` is from the first stage's start to the last one's end, without what is kept already.
    """

    settings: Settings
    device: Device
    rows: DomainRows
    models: Sequence[KnownModel]
    tokenizer: str
    stages: Sequence[StageCost]
    seconds: float
    disk: float
    stops: Sequence[str]
    warnings: Sequence[str]
    notes: Sequence[str]

    def stage(self, label: str) -> StageCost:
        return next(stage for stage in self.stages if stage.label == label)


def estimate(
    settings: Settings, *, assume_rows: bool = False, until: str | None = None
) -> Estimate:
    """What a run under these settings would take. `assume_rows` where there is no data to read.

    Raises:
        InputError: the domain's rows or a model's folder cannot be used, as in a run.
    """
    check_models(settings)
    root = store_root(settings.runtime)
    device = device_of(settings.runtime)
    rows = assumed_rows(settings) if assume_rows else expected_rows(settings)
    at = Situation(settings, device, rows, root)
    _note_stops(at)
    specs = _specs(at)
    stages = _with_kept(_of_graph(at, _costs(at, specs), until), specs, root)
    fused = [stage for stage in stages if stage.stage == "fuse"]
    return Estimate(
        settings=settings,
        device=device,
        rows=at.rows,
        models=list({ref.path: known_model(ref) for ref in models_of(settings, WRITERS)}.values()),
        tokenizer=at.counter(settings.base).source,
        stages=stages,
        seconds=wall_seconds(stages, settings.runtime.parallel_stages),
        disk=disk_bytes(at, [stage for stage in stages if stage.runs]),
        stops=at.stops,
        warnings=warnings_of(at, stages),
        notes=[*at.unknown, *_notes(at, fused)],
    )


def _note_stops(at: Situation) -> None:
    """What a run checks before its first stage, and this machine lacks."""
    with at.noting(""):
        require_endpoint_keys(at.settings, at.settings.runtime)
    with at.noting(""):
        at.settings.runtime.require_modules()
    for ref in models_of(at.settings, WRITERS):
        with at.noting(""):
            ref.pinned()
    if at.rows.assumed:
        at.note_stop("no data named: give --data or --domain")


def _specs(at: Situation) -> Specs:
    """Every stage's key; only `prepare`'s where its artifact is not there or a model is not.

    Without `prepare` nothing that follows can be in the store, for all of it stands on its key.
    """
    if at.rows.assumed:
        return {}
    specs: Specs = {}
    try:
        specs = run_specs(at.settings, at.root, None)
        (spec,) = specs["prepare"]
        if spec is not None and is_kept(at.root, spec):
            at.rows = prepared_rows(folder_of(at.root, spec))
            specs = run_specs(at.settings, at.root, len(at.rows.train))
    except InputError:  # noted by `_note_stops`: the keys of what is not here are not known
        pass
    return specs


def _costs(at: Situation, specs: Specs) -> list[StageCost]:
    settings = at.settings
    refined = refining_costs(at, rewrites_found(at))
    fused = next(s.label for s in reversed(refined) if s.stage in ("gather", "fuse"))
    base = measured(at, settings.respond_stage(trained=False).benchmarks)
    costs = [*refined, *evaluating_costs(at, BASE, base, ("prepare",), answers_found(at, base))]
    own = measured(at, settings.respond_stage(trained=True).benchmarks)
    methods = settings.methods
    for name in slowest_first(settings):
        targets = ANSWERS.get(methods[name].targets, fused)
        trained = distilling_costs(at, name, (targets, f"evaluate {BASE}"))
        costs += [*trained, *evaluating_costs(at, name, own, (trained[-1].label,))]
    ends = tuple(stage.label for stage in costs)
    seconds = at.history.seconds("report") or LIGHT_SECONDS
    return [*costs, StageCost("report", "report", ends, seconds=seconds)]


def _of_graph(at: Situation, costs: Sequence[StageCost], until: str | None) -> list[StageCost]:
    """Return the costs of the stages that the run has, each after those that it waits for.

    A stage that nothing is known of takes what it took earlier here. What is embedded ahead is part
    of the filter's cost.

    Raises:
        InputError: the run has no stage `until`.
    """
    run = full_run(at.settings, prepare_node(at.settings), max(1, len(at.rows.train)))
    known = {cost.label: cost for cost in costs}
    found: dict[str, StageCost] = {}
    for node in ordered(run.until(until)):
        if node.stage == EMBED.name:
            continue
        before = (each.name for each in node.before if each.stage != EMBED.name)
        after = tuple(dict.fromkeys(name for name in before if name != node.name))
        if node.name not in known:
            seconds = at.history.seconds(node.stage) or LIGHT_SECONDS
            known[node.name] = StageCost(node.name, node.stage, seconds=seconds, light=True)
        found[node.name] = replace(known[node.name], after=after)
    order = list(known)
    return sorted(found.values(), key=lambda cost: order.index(cost.label))


def _with_kept(costs: Sequence[StageCost], specs: Specs, root: Path) -> list[StageCost]:
    """Each stage with whether the store has all of it."""
    return [replace(cost, kept=_kept(cost.label, specs, root)) for cost in costs]


def _kept(label: str, specs: Specs, root: Path) -> bool | None:
    if label in specs:
        return all(is_kept(root, spec) for spec in specs[label])
    return False if "prepare" in specs else None


def _notes(at: Situation, fused: Sequence[StageCost]) -> list[str]:
    """What was taken for granted."""
    details: Mapping[str, float] = fused[0].details if fused else {}
    measured_rounds = bool(details.get("rounds_measured"))
    how = "as in earlier runs here" if measured_rounds else "half way between one and all, assumed"
    notes = [
        "answers, rewrites, fused answers and rollouts are taken to be as long as earlier ones of "
        "this model in the store, or else as the references, within their limits; 'at most' is "
        "every answer at its limit",
        "prompts without reference answers (instructions, rehearsal): answers of a third of the "
        "limit, assumed",
    ]
    if fused:
        notes.insert(
            1,
            "all training rows are taken to pass the filter; rounds of fusion: "
            f"{details.get('rounds', 0):.2f} a row, {how}",
        )
    if at.sample.of > len(at.sample.rows):
        notes.append(f"lengths are those of {len(at.sample.rows)} rows, drawn by the seed")
    if "://" in at.settings.runtime.store_address:
        notes.append("of the shared store only what this machine has was looked at")
    return notes
