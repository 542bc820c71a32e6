"""Stage `promote`: whether a retrained model may replace the one in use.

Two models are compared on the same rows. Every bound is on the end of a 95% interval, so that a
difference which the test set cannot see never promotes a model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from raft_core.config.base import FrozenConfig
from raft_core.data.records import read_jsonl
from raft_core.evaluation.evaluate import outcomes
from raft_core.evaluation.metrics import Estimate
from raft_core.execution.stage import Reads, Stage, StageConfig, StageRun
from raft_core.refine.prepare import comparable_words

DOMAIN = "domain"


class PromotionConfig(FrozenConfig):
    """What a challenger has to hold against the champion, and against the base that both are of."""

    domain_margin: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.05, description="domain accuracy that may be lost, as the lower end of the interval"
    )
    retention_floor: Annotated[float, Field(ge=0, le=1)] = Field(
        0.9, description="share of the base's score on each retained benchmark, as the lower end"
    )


class PromoteStage(StageConfig):
    promotion: PromotionConfig
    retained: tuple[str, ...]

    def reads(self) -> Reads:
        return {"prepare": ("train.jsonl",), "compared": ("verdicts.jsonl",)}


PROMOTE = Stage("promote", 3, PromoteStage, "raft_core.evaluation.promote")


@dataclass(frozen=True, slots=True)
class Check:
    """One condition: the lower end of an interval over `rows` rows against its bound.

    `estimate` is None where nothing could be compared, or where the base has too few right answers
    for an interval of what is retained of it; such a check fails.
    """

    name: str
    rows: int
    estimate: Estimate | None
    bound: float
    strict: bool = False

    @property
    def passed(self) -> bool:
        if self.estimate is None:
            return False
        low = self.estimate.low
        return low > self.bound if self.strict else low >= self.bound


def run(stage: StageRun) -> None:
    """Writes decision.json and decision.md.

    Compared are `evaluate` artifacts `challenger.today`, `base.today` and, where there is a
    champion, `champion.today` (today's test rows) and both models' `.accepted` (the rows that the
    champion was accepted on), beside today's `prepare`. The rows that were accepted once guard
    against a data file whose new answers are wrong in training and test alike.
    """
    config: PromoteStage = stage.config
    compared = stage.inputs.named("compared")
    inputs = compared | {"prepare": stage.inputs["prepare"]}
    checks = [*domain_checks(inputs, config), *retention_checks(compared, config)]
    decision = {
        "promote": all(check.passed for check in checks),
        "first": "champion.today" not in compared,
        "checks": [asdict(check) | {"passed": check.passed} for check in checks],
    }
    (stage.out / "decision.json").write_text(json.dumps(decision, indent=1))
    (stage.out / "decision.md").write_text("\n".join(as_markdown(checks)) + "\n")


def domain_checks(inputs: Mapping[str, Path], config: PromoteStage) -> list[Check]:
    challenger = outcomes_by_id(inputs["challenger.today"], DOMAIN)
    if "champion.today" not in inputs:
        base = outcomes_by_id(inputs["base.today"], DOMAIN)
        gained = difference(challenger, base)
        return [Check("domain accuracy over the base", len(base), gained, 0.0, strict=True)]
    bound = -config.promotion.domain_margin
    champion = outcomes_by_id(inputs["champion.today"], DOMAIN)
    today = difference(challenger, champion)
    untrained = untrained_rows(inputs["champion.accepted"], inputs["prepare"])
    before, after = (
        {row: right for row, right in outcomes_by_id(folder, DOMAIN).items() if row in untrained}
        for folder in (inputs["champion.accepted"], inputs["challenger.accepted"])
    )
    return [
        Check("domain accuracy over the champion, today's rows", len(champion), today, bound),
        Check(
            "domain accuracy over the champion, the rows that it was accepted on",
            len(before),
            difference(after, before),
            bound,
        ),
    ]


def retention_checks(inputs: Mapping[str, Path], config: PromoteStage) -> list[Check]:
    from raft_core.evaluation.statistics import retention

    checks = []
    for benchmark in config.retained:
        base = outcomes(inputs["base.today"], benchmark)
        challenger = outcomes(inputs["challenger.today"], benchmark)
        rows = [str(number) for number in range(len(base))]
        kept = retention([[challenger]], [[base]], [[rows]])
        floor = config.promotion.retention_floor
        checks.append(Check(f"{benchmark} retained of the base", len(base), kept, floor))
    return checks


def outcomes_by_id(evaluated: Path, benchmark: str) -> dict[str, bool]:
    """Row id -> right or wrong, from an `evaluate` artifact."""
    rows = read_jsonl(evaluated / "verdicts.jsonl")
    return {row["id"]: row["correct"] for row in rows if row["benchmark"] == benchmark}


def difference(model: Mapping[str, bool], other: Mapping[str, bool]) -> Estimate | None:
    """Accuracy of `model` minus that of `other`, paired by row; None without rows."""
    from raft_core.evaluation.statistics import paired_difference  # scipy: settings need none

    rows = list(other)
    if not rows:
        return None
    return paired_difference([[model[row] for row in rows]], [list(other.values())], [rows])


def untrained_rows(evaluated: Path, prepared: Path) -> set[str]:
    """Ids of the domain rows whose question is in none of today's training rows."""
    trained = {comparable_words(row["question"]) for row in read_jsonl(prepared / "train.jsonl")}
    return {
        row["id"]
        for row in read_jsonl(evaluated / "verdicts.jsonl")
        if row["benchmark"] == DOMAIN and comparable_words(row["prompt"]) not in trained
    }


def as_markdown(checks: Sequence[Check]) -> list[str]:
    """The checks as a table."""
    lines = ["| check | rows | measured | lower end must be | |", "| --- | --- | --- | --- | --- |"]
    for check in checks:
        found = "the base scores too little" if check.rows else "nothing to compare"
        if (e := check.estimate) is not None:
            found = f"{e.value:+.3f} [{e.low:+.3f}, {e.high:+.3f}]"
        bound = f"{'above' if check.strict else 'at least'} {check.bound:+.3f}"
        outcome = "passed" if check.passed else "**failed**"
        lines.append(f"| {check.name} | {check.rows} | {found} | {bound} | {outcome} |")
    return lines
