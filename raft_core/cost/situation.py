"""What all parts of an estimate look at: settings, device, rows, models, and what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from raft_core.app.settings import Settings
from raft_core.config.base import ModelRef
from raft_core.cost.device import Device
from raft_core.cost.history import History
from raft_core.cost.models import KnownModel, known_model
from raft_core.cost.rates import Machine
from raft_core.cost.rows import DomainRows
from raft_core.cost.tokens import BY_CHARACTERS, Sample, TokenCounter, counter_of, sampled
from raft_core.engines.base import GeneratorConfig, OpenAIConfig
from raft_core.errors import InputError


@dataclass
class Situation:
    """`stops` collects what would stop a run before it began, `unknown` what is not counted."""

    settings: Settings
    device: Device
    rows: DomainRows
    root: Path
    stops: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @property
    def machine(self) -> Machine:
        return self.device.machine

    @cached_property
    def history(self) -> History:
        return History(self.root)

    @cached_property
    def sample(self) -> Sample:
        """Training rows whose tokens are counted for all."""
        return sampled(self.rows.train, self.settings.seed)

    @cached_property
    def base(self) -> KnownModel:
        return known_model(self.settings.base)

    def counter(self, model: ModelRef | None) -> TokenCounter:
        """By the model's tokenizer; of an endpoint, and of assumed rows, by characters."""
        if model is None or self.rows.assumed:
            return BY_CHARACTERS
        return counter_of(known_model(model))

    def counter_for(self, generator: GeneratorConfig) -> TokenCounter:
        return self.counter(None if isinstance(generator, OpenAIConfig) else generator.model)

    @contextmanager
    def noting(self, what: str) -> Iterator[None]:
        """What a run would refuse is noted here, so that the rest can be told."""
        try:
            yield
        except InputError as error:
            self.note_stop(f"{what}: {error}" if what else str(error))

    def note_stop(self, told: str) -> None:
        if told not in self.stops:
            self.stops.append(told)

    def note_unknown(self, told: str) -> None:
        if told and told not in self.unknown:
            self.unknown.append(told)
