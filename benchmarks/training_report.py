"""Write the tables and ratios of the comparison of training steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.measuring import Ratio, Spread, paired, table
from benchmarks.training_sides import Side

PHASES = ("generation", "teacher", "student forward", "loss", "backward", "optimizer", "rest")
PROFILED = ("5M", "50M")
TRL_WAYS = {
    "default": "TRL",
    "static": "TRL, static cache",
    "eager": "TRL, eager attention",
    "compiled": "TRL, torch.compile",
    "ahead": "TRL, steps ahead",
}
HOW = """\
A step has 16 rows and K = 512, in float32 without gradient checkpointing, from the same weights and
rows, with a frozen teacher that reads the reference; learning rate about 0, so that the answers of
all sides stay as long as they are. RAFT is the trainer as the stage `distill` builds it, with all
of the method, and with its KL alone (no row of an answer is in any pass, so that no question is
shared between an answer and a rollout). TRL is `SDFTTrainer` of
trl 1.16: forward KL on top-K logits, teacher `base`, `transformers.generate`. A ratio is to its
fastest way. Where a setting says 3 steps ahead, both draw the rollouts of 4 steps in one batch
(`distill.rollout_ahead`, TRL's `steps_per_generation`), of which the last are of a student that is
3 steps old. Each side is a process on cores of its own that is
stopped while another has its turn; medians [lowest, highest] over the turns, and ratios over the
pairs of turns. Above 1 it is faster than TRL."""
MEMORY = """\
Peak memory (RSS) in MiB, and in brackets how much of it came after the model and its teacher were
loaded: gradients, optimizer state and activations. Below 1 RAFT needs less."""
PROFILE = """\
Where a step's time goes, in milliseconds (means; of TRL's loss what follows its two passes, of
RAFT's what is not inside them)."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One setting's sides; `trl` is empty where TRL could not be installed."""

    name: str
    kl: Side
    full: Side
    trl: list[Side]

    @property
    def sides(self) -> list[Side]:
        return [self.kl, self.full, *self.trl]

    @property
    def peer(self) -> Side | None:
        """TRL in its fastest way."""
        return min(self.trl, key=lambda side: median(side.seconds), default=None)

    def speed(self, side: Side) -> Spread:
        """Return TRL's seconds / this side's, pair by pair."""
        assert self.peer is not None
        return paired(self.peer.seconds, side.seconds)

    def memory(self, side: Side) -> tuple[float, float]:
        """Return this side's peak / TRL's: of what came after loading, and in all."""
        assert self.peer is not None
        return side.grown_mib / self.peer.grown_mib, side.peak_mib / self.peer.peak_mib


def ratios(comparisons: Sequence[Comparison]) -> tuple[Ratio, ...]:
    """Return the ratios of the document's summary."""
    found = []
    for each in comparisons:
        if each.peer is None:
            continue
        for side, goal in ((each.kl, ">= 2"), (each.full, ">= 1")):
            beside = f"{side.name} / TRL's KL, {each.name}"
            found.append(Ratio(f"samples a second: {beside}", each.speed(side), goal))
            grown, _ = each.memory(side)
            found.append(Ratio(f"peak memory of training: {beside}", Spread.of([grown])))
    return tuple(found)


def markdown(comparisons: Sequence[Comparison], remark: str) -> str:
    """Return the section; `remark` is a sentence that comes before all else."""
    parts = [remark, HOW, speeds(comparisons), MEMORY, memories(comparisons), PROFILE]
    parts.append(profiles([each for each in comparisons if each.name.startswith(PROFILED)]))
    return "\n\n".join(part for part in parts if part)


def speeds(comparisons: Sequence[Comparison]) -> str:
    rows = []
    for each in comparisons:
        for side in each.sides:
            compared = each.peer is not None and side is not each.peer
            rows.append(
                [
                    f"{each.name}: {side.name}",
                    Spread.of(side.samples_per_second()).text(),
                    each.speed(side).text() if compared else "",
                    "" if side.completion_tokens is None else f"{side.completion_tokens:.1f}",
                ]
            )
    return table(["setting", "samples/s", "ratio to TRL", "tokens a completion"], rows)


def memories(comparisons: Sequence[Comparison]) -> str:
    rows = []
    for each in comparisons:
        row = [each.name, *(f"{side.peak_mib:.0f} ({side.grown_mib:.0f})" for side in each.sides)]
        if each.peer is not None:
            row[3:] = [f"{each.peer.peak_mib:.0f} ({each.peer.grown_mib:.0f})"]
            for side in (each.kl, each.full):
                grown, whole = each.memory(side)
                row.append(f"{whole:.2f} ({grown:.2f})")
        rows.append(row)
    header = ["setting", "KL alone", "SFT + KL", "TRL", "KL alone / TRL", "SFT + KL / TRL"]
    return table(header[: len(rows[0])] if rows else header, rows)


def profiles(comparisons: Sequence[Comparison]) -> str:
    rows = [
        [
            f"{each.name}: {side.name}",
            *(f"{1000 * side.phases[phase] / side.steps:.0f}" for phase in PHASES),
        ]
        for each in comparisons
        for side in each.sides
    ]
    return table(["setting", *PHASES], rows)
