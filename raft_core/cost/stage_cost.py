"""What one stage would take, and when it could begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from raft_core.cost.memory import Memory


@dataclass(frozen=True, slots=True)
class EndpointUse:
    """What one stage asks of an endpoint; `most` tokens if every answer is as long as it may."""

    endpoint: str
    model: str
    requests: float
    prompt_tokens: float
    tokens: float
    most: float


@dataclass(frozen=True)
class StageCost:
    """One stage as the flow calls it, its shards together.

    `tokens` are generated here, `most` if every answer reached its limit; `read` is what models
    read here for that, or what a training's student and teacher read. `kept` is whether the store
    has it (None: not known), `found` how many of its completions the cache has.
    """

    label: str
    stage: str
    after: tuple[str, ...] = ()
    rows: float = 0
    requests: float = 0
    read: float = 0
    tokens: float = 0
    most: float = 0
    steps: int = 0
    flops: float = 0
    seconds: float = 0
    memory: Memory | None = None
    endpoints: tuple[EndpointUse, ...] = ()
    artifact_bytes: float = 0
    scratch_bytes: float = 0
    shards: int = 1
    light: bool = False
    kept: bool | None = None
    found: int = 0
    rate: str = ""
    details: Mapping[str, float] = field(default_factory=dict)

    @property
    def runs(self) -> bool:
        """Whether it has to be made."""
        return not self.kept


def wall_seconds(stages: Sequence[StageCost], slots: int) -> float:
    """From the start to the end of all, `slots` processes at a time; what is kept takes none.

    A stage begins when those before it have ended and a slot is free, in the order given; light
    stages need no slot. Shards of one stage count each for itself.
    """
    ended: dict[str, float] = {}
    free = [0.0] * slots
    waiting = list(stages)
    while waiting:
        ready = [s for s in waiting if all(name in ended for name in s.after)]
        stage = min(ready, key=lambda s: max((ended[name] for name in s.after), default=0.0))
        waiting.remove(stage)
        begin = max((ended[name] for name in stage.after), default=0.0)
        if not stage.runs:
            ended[stage.label] = begin
        elif stage.light:
            ended[stage.label] = begin + stage.seconds
        else:
            ended[stage.label] = _in_slots(stage, begin, free)
    return max(ended.values(), default=0.0)


def _in_slots(stage: StageCost, begin: float, free: list[float]) -> float:
    """When the last shard ends; takes the slots that are free first."""
    end = begin
    for _ in range(stage.shards):
        place = free.index(min(free))
        free[place] = max(free[place], begin) + stage.seconds / stage.shards
        end = max(end, free[place])
    return end
