"""The fact guard rejects a wording of an answer that loses or changes facts, and says why.

The rules are in `rules`; after them a cross-encoder for inference, where one is set, may see a
contradiction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from raft_core.config.base import FrozenConfig
from raft_core.config.runtime import RuntimeConfig
from raft_core.facts.nli import NliConfig, NliModel

RULES_VERSION = 2
LONGEST_DETAIL = 240

Failures = dict[str, str]  # rule -> what was lost and what is new; empty: passed


class GuardConfig(FrozenConfig):
    """Which facts a rewrite or a fused answer must keep; `nli` adds a model's verdict."""

    answer: bool = True
    numbers: bool = True
    negation: bool = True
    names: bool = True
    nli: NliConfig | None = None

    def identity(self) -> dict[str, Any]:
        """Return the rules that are on, their version and the model, if one is set."""
        rules = {name: getattr(self, name) for name in ("answer", "numbers", "negation", "names")}
        return rules | {"rules": RULES_VERSION} | ({"nli": self.nli} if self.nli else {})


@dataclass(frozen=True, slots=True)
class Claim:
    """A wording of a reference answer that is to state the same facts."""

    question: str
    reference: str
    text: str
    expected: tuple[str, ...] = ()


class Guard:
    """The rules, and the model where one is set; it is loaded once."""

    def __init__(self, config: GuardConfig, runtime: RuntimeConfig) -> None:
        self._config = config
        self._model = NliModel(config.nli, runtime) if config.nli else None

    def check(self, claims: Sequence[Claim]) -> list[Failures]:
        """Return what fails, claim by claim; the model judges those that pass the rules."""
        failures = [self._by_rules(claim) for claim in claims]
        if self._model is None:
            return failures
        passed = [i for i, failed in enumerate(failures) if not failed]
        pairs = [(claims[i].reference, claims[i].text) for i in passed]
        for i, detail in zip(passed, self._model.contradictions(pairs), strict=True):
            if detail:
                failures[i]["contradicts"] = detail
        return failures

    def _by_rules(self, claim: Claim) -> Failures:
        """Check the rules; a text that they cannot read is rejected with the error."""
        from raft_core.facts.rules import check_rules  # many patterns, which settings need not

        try:
            return check_rules(claim, self._config)
        except (ValueError, ArithmeticError, LookupError, RecursionError) as error:
            return {"unreadable": f"{type(error).__name__}: {error}"[:LONGEST_DETAIL]}
