"""What a stage has taken from the budgets of its endpoints."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from raft_core.config.runtime import EndpointBudget
from raft_core.errors import EngineError


class BudgetSpent(EngineError):
    """The stage may ask this endpoint for nothing more."""


class Account:
    """One endpoint's; threads may share it."""

    def __init__(
        self, name: str, budget: EndpointBudget, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name, self._budget, self._clock = name, budget, clock
        self._lock = threading.Lock()
        self._requests = self._tokens = 0
        self._waited = 0.0
        self._since: float | None = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The time in here is what `seconds` limits."""
        self._since = self._clock()
        try:
            yield
        finally:
            self._waited, self._since = self._seconds(), None

    def admit(self) -> None:
        """Count a request that is about to be sent.

        Raises:
            BudgetSpent: with what was spent; the request is not counted.
        """
        with self._lock:
            spent = {
                "requests": self._requests,
                "tokens": self._tokens,
                "seconds": self._seconds(),
            }
            for unit, amount in spent.items():
                limit = getattr(self._budget, unit)
                if limit is not None and amount >= limit:
                    raise BudgetSpent(self._say(unit, limit, spent))
            self._requests += 1

    def charge(self, tokens: int | None) -> None:
        """Count the tokens of an answer; None where the endpoint does not tell.

        Raises:
            BudgetSpent: it does not tell, and has a budget of tokens.
        """
        if tokens is None and self._budget.tokens is not None:
            raise BudgetSpent(
                f"endpoint '{self._name}' does not count tokens (no `usage` in its answers), so "
                f"that runtime.endpoints.{self._name}.budget.tokens cannot be held; give requests "
                "or seconds instead"
            )
        with self._lock:
            self._tokens += tokens or 0

    def _seconds(self) -> float:
        since = self._since
        return self._waited + (0.0 if since is None else self._clock() - since)

    def _say(self, unit: str, limit: float, spent: dict[str, float]) -> str:
        return (
            f"endpoint '{self._name}': runtime.endpoints.{self._name}.budget.{unit} = {limit:g} is "
            f"used up; this stage spent {spent['requests']:,} requests, {spent['tokens']:,} tokens "
            f"and {spent['seconds']:.1f} s"
        )


class Spending:
    """The accounts of one stage."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}

    def account(self, name: str, budget: EndpointBudget) -> Account:
        """The account of the endpoint of this name, which is opened with the budget."""
        return self._accounts.setdefault(name, Account(name, budget))
