"""Compare RAFT's training step with TRL's `SDFTTrainer`: `python -m benchmarks.training_step`.

Both train the same weights on the same rows and draw completions of the same lengths; each is a
process of its own, kept on the cores that it has threads for, and while one works the others are
stopped. They take turns of a few steps; a ratio is of two turns of one round. `--short` is the
report of CI. TRL is installed on the first call; without it RAFT's own figures are printed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.measuring import CaseResult
from benchmarks.training_models import model_folder, write_rows
from benchmarks.training_report import TRL_WAYS, Comparison, markdown, ratios
from benchmarks.training_sides import Side, started
from benchmarks.training_spec import StepSpec
from benchmarks.trl_environment import NotInstalled, bench_folder, trl_python
from raft_core.distill.config import DistillConfig

EPOCHS = 3
AHEAD = 3


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table.

    `answers` of the world make one row's answer: about a completion's length. A turn has `steps`;
    `log_every` 5 is the profile's, less only where there are few steps. `ahead` of them both sides
    draw rollouts for more steps than the next one, in the same batch.
    """

    model: str
    new_tokens: int
    answers: int
    threads: int
    steps: int
    pairs: int
    warm_up: int = 2
    log_every: int = 5
    trl_ways: tuple[str, ...] = ("default",)
    ahead: int = 0

    @property
    def name(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        most = "up to " if self.model == "mini" else ""
        ahead = f", {self.ahead} steps ahead" if self.ahead else ""
        return f"{self.model}, {most}{self.new_tokens} tokens, {threads}{ahead}"


FULL = (
    Setting("mini", 48, 1, threads=1, steps=5, pairs=5),
    Setting("5M", 24, 1, threads=1, steps=5, pairs=5, trl_ways=("default", "compiled")),
    Setting("5M", 24, 1, threads=1, steps=4, pairs=4, warm_up=4, trl_ways=("ahead",), ahead=AHEAD),
    Setting("5M", 64, 2, threads=1, steps=3, pairs=3, log_every=3),
    Setting("5M", 64, 2, threads=2, steps=3, pairs=3, log_every=3),
    Setting("50M", 24, 1, threads=1, steps=2, pairs=3, warm_up=1, log_every=2),
)
SHORT = (
    Setting("mini", 48, 1, threads=1, steps=3, pairs=2),
    Setting("5M", 24, 1, threads=1, steps=3, pairs=2),
)


def sides_of(setting: Setting, folder: Path, trl: Path | None) -> Comparison:
    steps, rows = setting.warm_up + setting.steps * setting.pairs, folder / "rows.jsonl"
    common = {
        "model": str(model_folder(setting.model, bench_folder())),
        "rows": str(rows),
        "new_tokens": setting.new_tokens,
        "threads": setting.threads,
        "trl_teacher_prompt": trl_teacher_prompt(),
        "log_every": setting.log_every,
        "ahead": setting.ahead,
        "steps": steps + 1,  # the training is ended from outside, before it saves its result
    }

    def side(name: str, module: str, python: str | Path, variant: str) -> Side:
        own = StepSpec(variant=variant, folder=str(folder / f"{module}-{variant}"), **common)
        return Side(name, str(python), f"benchmarks.{module}", own)

    found = Comparison(
        setting.name,
        side("RAFT, KL alone", "raft_step", sys.executable, "kl"),
        side("RAFT, SFT + KL", "raft_step", sys.executable, "full"),
        [side(TRL_WAYS[way], "trl_step", trl, way) for way in possible(setting.trl_ways) if trl],
    )
    # So that a row is visited as often as in a training of the paper's length.
    batch = found.kl.spec.batch_size
    write_rows(rows, batch * -(-steps // EPOCHS), setting.answers)
    return found


def possible(ways: tuple[str, ...]) -> list[str]:
    """Return those of TRL's ways that work here: torch compiles with a C++ compiler."""
    return [way for way in ways if way != "compiled" or shutil.which("g++")]


def trl_teacher_prompt() -> str:
    """Return RAFT's words to the teacher, with TRL's names of the fields."""
    text = DistillConfig().teacher_prompt.load().text
    return text.replace("{reference}", "{privileged_context}").replace("{question}", "{prompt}")


def measured(setting: Setting, trl: Path | None) -> Comparison:
    """Return all sides with what their turns took."""
    with tempfile.TemporaryDirectory() as folder:
        comparison = sides_of(setting, Path(folder), trl)
        sides = started(comparison.sides)
        try:
            for side in sides:
                side.turn(setting.warm_up, counts=False)
            for pair in range(setting.pairs):
                # There and back again, so that no side always follows the same one.
                for side in sides if pair % 2 == 0 else sides[::-1]:
                    side.turn(setting.steps, counts=True)
        finally:
            for side in sides:
                side.end()
    told(comparison)
    return comparison


def told(comparison: Comparison) -> None:
    """Print every turn's seconds, and the processor's."""
    print(comparison.name, file=sys.stderr)
    for side in comparison.sides:
        wall = " ".join(f"{seconds:.2f}" for seconds in side.seconds)
        cpu = " ".join(f"{seconds:.2f}" for seconds in side.cpu_seconds)
        print(f"  {side.name}: {wall} s, CPU {cpu} s", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--short", action="store_true", help="two small models, few steps")
    parser.add_argument("--json", type=Path, help="where the result is kept")
    parser.add_argument("--only", default="", help="settings whose names begin like this")
    ways = [way for way in TRL_WAYS if way != "ahead"]
    parser.add_argument("--trl-ways", nargs="+", choices=ways, help="in every setting")
    options = parser.parse_args()
    remark = ""
    try:
        trl: Path | None = trl_python()
    except NotInstalled as error:
        trl, remark = None, f"TRL could not be installed here ({error}): RAFT's own figures."
    begun, found = time.perf_counter(), []
    for setting in SHORT if options.short else FULL:
        if setting.name.startswith(options.only):
            found.append(measured(with_ways(setting, options.trl_ways), trl))
    seconds = time.perf_counter() - begun
    CaseResult("training_step", ratios(found), markdown(found, remark), seconds).write(options.json)


def with_ways(setting: Setting, ways: list[str] | None) -> Setting:
    return replace(setting, trl_ways=tuple(ways)) if ways else setting


if __name__ == "__main__":
    main()
