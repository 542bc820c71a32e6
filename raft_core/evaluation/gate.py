"""The gate before training: a base that cannot read a reference cannot teach from one."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from raft_core.config.base import FrozenConfig
from raft_core.errors import GateError


class GateConfig(FrozenConfig):
    """`benchmark` names an entry of `evaluate.benchmarks` that the base model answers."""

    benchmark: str = "reading"
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.95


def require_readable(scores: dict[str, dict[str, Any]], gate: GateConfig, model: str) -> float:
    """The base's score under the teacher's template.

    Raises:
        GateError: it lies below the threshold.
    """
    score = float(scores[gate.benchmark]["accuracy"])
    if score < gate.threshold:
        raise GateError(
            f"gate: model '{model}' answers {score:.3f} of '{gate.benchmark}' right when it reads "
            f"the reference under the teacher's template, below gate.threshold={gate.threshold}. "
            "A teacher that misreads references teaches wrong facts: use a stronger base model, "
            "or lower the threshold knowingly"
        )
    return score
