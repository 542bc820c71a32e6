"""What it would take to measure a model: its answers to the benchmarks, and their judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

from raft_core.cost.engine_cost import EngineCost, context_of, engine_cost
from raft_core.cost.rates import LIGHT_SECONDS
from raft_core.cost.refining import judge_cost, start_of, together
from raft_core.cost.requests import NOTHING, Asked, answering, judging
from raft_core.cost.situation import Situation
from raft_core.cost.stage_cost import StageCost
from raft_core.data.records import Example
from raft_core.engines.base import OpenAIConfig
from raft_core.evaluation.benchmarks import BenchmarkConfig
from raft_core.evaluation.benchmarks.base import Item
from raft_core.evaluation.judges import LlmJudge

Items = dict[str, list[Item]]


@dataclass(frozen=True)
class Measured:
    """What one model is asked; `judged` are the benchmarks that the panel decides."""

    items: Items
    judged: frozenset[str]

    @property
    def rows(self) -> int:
        return sum(map(len, self.items.values()))


def measured(at: Situation, benchmarks: Mapping[str, BenchmarkConfig]) -> Measured:
    """The prompts of all benchmarks whose rows can be read here."""
    items: Items = {}
    for name, benchmark in benchmarks.items():
        if benchmark.kind == "lm_eval":
            at.note_unknown(f"evaluate.benchmarks.{name}: lm-evaluation-harness asks, not counted")
            continue
        with at.noting(f"evaluate.benchmarks.{name}"):
            items[name] = items_of(at, benchmark)
    by_rule = {n for n, b in benchmarks.items() if b.kind in ("instructions", "lm_eval")}
    return Measured(items, frozenset(items) - by_rule)


def items_of(at: Situation, benchmark: BenchmarkConfig) -> list[Item]:
    """A benchmark's prompts; the domain's own are those of the rows as they are known here.

    Raises:
        InputError: its data cannot be read.
    """
    if benchmark.kind == "domain":
        return [_question(row) for row in at.rows.splits[benchmark.split]]
    if benchmark.kind == "reading" and benchmark.data is None:
        prompt = benchmark.prompt.load()
        return [
            Item(r.id, prompt.render(reference=r.answer, question=r.question), r.question, r.answer)
            for r in at.rows.splits["validation"]
        ]
    return benchmark.items(at.root)


def _question(row: Example) -> Item:
    return Item(row.id, row.question, row.question, row.answer, row.expected)


def evaluating_costs(
    at: Situation, name: str, asked: Measured, after: Sequence[str], found: int = 0
) -> list[StageCost]:
    """`respond NAME` and `evaluate NAME`."""
    return [_respond(at, name, asked, after, found), _evaluate(at, name, asked)]


def _respond(
    at: Situation, name: str, asked: Measured, after: Sequence[str], found: int
) -> StageCost:
    settings, engine = at.settings, at.settings.engine
    counter, context = at.counter_for(engine), context_of(engine)
    most = settings.evaluate.sampling.max_tokens
    parts = [answering(items, most, counter, context) for items in asked.items.values()]
    length = at.history.length("respond", engine, settings.evaluate.sampling)
    whole = reduce(add, parts, NOTHING).of_length(length)
    missing = whole.less(found)
    rate = at.history.tokens("respond", engine, start_of(at, engine))
    cost = engine_cost(engine, missing, at.device, settings.runtime, rate)
    return StageCost(
        label=f"respond {name}",
        stage="respond",
        after=tuple(after),
        rows=asked.rows,
        requests=missing.requests,
        read=missing.prompt_tokens,
        tokens=missing.tokens,
        most=missing.most,
        flops=cost.flops,
        seconds=cost.seconds,
        memory=cost.memory,
        found=found,
        rate=cost.rate,
        details={"too_long": whole.too_long, "length_measured": length or 0},
    )


def _evaluate(at: Situation, name: str, asked: Measured) -> StageCost:
    """The panel's language models judge one after the other; rules take no time to speak of."""
    limit = at.settings.evaluate.sampling.max_tokens
    costs: list[EngineCost] = []
    local: list[Asked] = []
    for judge in at.settings.evaluate.panel:
        if not isinstance(judge, LlmJudge):
            continue
        counter, context = at.counter_for(judge.generator), context_of(judge.generator)
        items = [item for key in sorted(asked.judged) for item in asked.items[key]]
        wanted = judging(items, judge, limit, counter, context)
        costs.append(judge_cost(at, judge.generator, wanted))
        if not isinstance(judge.generator, OpenAIConfig):
            local.append(wanted)
    by_rules = at.history.seconds("evaluate") or LIGHT_SECONDS
    cost = together(at, costs, local)
    loaded = [each.memory for each in costs if each.memory]
    return replace(
        cost,
        label=f"evaluate {name}",
        stage="evaluate",
        after=(f"respond {name}",),
        rows=asked.rows,
        seconds=by_rules + cost.seconds,
        memory=max(loaded, key=lambda memory: memory.peak, default=None),
    )
