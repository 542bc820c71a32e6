"""Stage `fuse` (eq. 4): merge reference and kept rewrite, in rounds; the best-judged text wins.

Only rows whose rewrite passed the filter are fused; all others keep their reference answer. A
candidate that loses or changes a fact of the reference (`facts/guard.py`) cannot win.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from statistics import fmean
from typing import Annotated, Any

from pydantic import Field

from raft_core.config.base import FrozenConfig
from raft_core.data.records import (
    Example,
    FilteredRewrite,
    FusedAnswer,
    Rejection,
    iter_records,
    write_jsonl,
)
from raft_core.engines import GeneratorConfig, open_generator
from raft_core.engines.base import (
    Completion,
    GenerationRequest,
    Sampling,
    answer_text,
    request_seed,
)
from raft_core.execution.progress import Progress
from raft_core.execution.shards import WHOLE, Shard
from raft_core.execution.stage import Reads, Stage, StageConfig, StageRun
from raft_core.facts.guard import Claim, Guard, GuardConfig
from raft_core.prompts import FusePrompt, PromptRef
from raft_core.refine.grading import (
    FusionRow,
    LlmScorer,
    Scorer,
    ScorerConfig,
    is_usable,
    open_scorer,
)

GRADED_TOGETHER = 64  # a batch of the sentence encoder
GRADED_BY_ENDPOINT = 256

UnitInterval = Annotated[float, Field(ge=0, le=1)]


class FuseConfig(FrozenConfig):
    """Rounds of fusion. A round whose mean grade reaches `early_stop` is the last of its row.

    Below `min_score` no candidate is good enough and the row trains on its filtered rewrite.
    """

    prompt: FusePrompt = PromptRef(name="fuse.v1")
    sampling: Sampling = Sampling(temperature=0.7, top_p=0.95, max_tokens=1024)
    rounds: Annotated[int, Field(ge=1, le=10)] = 3
    early_stop: UnitInterval = 0.8
    min_score: UnitInterval = 0.5
    judges: Annotated[tuple[ScorerConfig, ...], Field(min_length=1)]


class FuseStage(StageConfig):
    generator: GeneratorConfig
    fuse: FuseConfig
    guard: GuardConfig | None = None
    shard: Shard = WHOLE

    def identity(self) -> dict[str, Any]:
        """All rows as one shard are all rows; without a guard, the paper's fusion."""
        whole: dict[str, Any] = {"generator": self.generator, "fuse": self.fuse}
        whole |= {} if self.guard is None else {"guard": self.guard}
        return whole if self.shard.is_whole else whole | {"shard": self.shard}

    def reads(self) -> Reads:
        return {"prepare": ("train.jsonl",), "filter": ("filtered.jsonl",)}


FUSE = Stage("fuse", 2, FuseStage, "raft_core.refine.fuse")


def run(stage: StageRun) -> None:
    """Writes fused.jsonl (one target per row of the shard), lineage.jsonl and rejected.jsonl."""
    config: FuseStage = stage.config
    examples = iter_records(stage.inputs["prepare"] / "train.jsonl", Example)
    filtered = iter_records(stage.inputs["filter"] / "filtered.jsonl", FilteredRewrite)
    paired = config.shard.stream(zip(examples, filtered, strict=True))
    rows = [FusionRow(example, rewrite) for example, rewrite in paired]
    passed = [row for row in rows if row.rewrite.passed]
    stage.progress.start("fuse", len(passed))
    if passed:
        fuse_in_rounds(passed, config, stage)
    fused = [fused_answer(row, config.fuse) for row in rows]
    write_jsonl(stage.out / "fused.jsonl", fused)
    write_jsonl(
        stage.out / "lineage.jsonl",
        (_lineage(row, answer) for row, answer in zip(rows, fused, strict=True)),
    )
    rejected = [_rejection(row) for row, a in zip(rows, fused, strict=True) if a.source != "fused"]
    stage.account(len(rows), len(rows) - len(rejected), rejected)


def fuse_in_rounds(rows: Sequence[FusionRow], config: FuseStage, stage: StageRun) -> None:
    """Add a judged candidate to every open row, round after round."""
    generator = open_generator(config.generator, stage)
    scorers = {
        f"{judge.kind}_{position}": open_scorer(judge, generator, config.generator, stage)
        for position, judge in enumerate(config.fuse.judges, 1)
    }
    guard = None if config.guard is None else Guard(config.guard, stage.runtime)
    rounds = Rounds(rows, config, scorers, guard, stage.progress)
    generator.generate(
        rounds.first(),
        config.fuse.sampling,
        on_completion=rounds.note,
        follow_up=rounds.follow_up,
    )


class Rounds:
    """Rows go through their rounds on their own: one may be at its third while another begins.

    What was written is graded, and asked for again, while the engine writes for other rows, so that
    it does not run empty between two rounds. A row's candidates depend on the row alone.
    """

    def __init__(
        self,
        rows: Sequence[FusionRow],
        config: FuseStage,
        scorers: Mapping[str, Scorer],
        guard: Guard | None,
        progress: Progress,
    ) -> None:
        self._config, self._scorers, self._guard = config.fuse, scorers, guard
        self._prompt, self._progress = config.fuse.prompt.load(), progress
        self._together = graded_together(config)
        self._rows = list(rows)  # by position of the request, in every round once more
        self._written: list[tuple[FusionRow, Completion]] = []

    def first(self) -> list[GenerationRequest]:
        """The requests of the first round."""
        return [self._request(row) for row in self._rows]

    def note(self, position: int, completion: Completion) -> None:
        """What was written for a request, to be graded with others."""
        self._written.append((self._rows[position], completion))

    def follow_up(self, idle: bool) -> list[GenerationRequest]:
        """Grade what was written, where it is enough or nothing else is left; ask for open rows."""
        if not self._written or not (idle or len(self._written) >= self._together):
            return []
        start, written = time.monotonic(), self._written
        self._written = []
        rows = [row for row, _ in written]
        _score_round(rows, [completion for _, completion in written], self._scorers)
        if self._guard is not None:
            _guard_round(rows, self._guard)
        still_open = [row for row in rows if self._is_open(row)]
        self._rows += still_open
        requests = [self._request(row) for row in still_open]
        self._progress.advance(len(rows) - len(still_open))
        self._progress.timing("grade", time.monotonic() - start)
        return requests

    def _is_open(self, row: FusionRow) -> bool:
        rounds_left = len(row.candidates) < self._config.rounds
        return rounds_left and not _is_good(row.candidates[-1], self._config)

    def _request(self, row: FusionRow) -> GenerationRequest:
        """Of the row's next round."""
        return GenerationRequest(
            self._prompt.render(
                question=row.example.question,
                reference=row.example.answer,
                rewrite=row.rewrite.text,
            ),
            request_seed(self._config.sampling.seed, "fuse", len(row.candidates), row.example.id),
        )


def graded_together(config: FuseStage) -> float:
    """How many candidates are graded while the engine writes for other rows.

    An endpoint gets more of them, as its share of failures is counted by the batch. What has a
    model of its own in this process grades when the engine is idle.
    """
    asked = {j.generator.kind for j in config.fuse.judges if isinstance(j, LlmScorer)}
    if asked - {"openai"} or (config.guard and config.guard.nli):
        return inf
    return GRADED_BY_ENDPOINT if asked else GRADED_TOGETHER


def _guard_round(rows: Sequence[FusionRow], guard: Guard) -> None:
    """Note at every row's last candidate which rules it fails, of those that are finished."""
    finished = [row for row in rows if row.candidates[-1]["mean"] is not None]
    claims = [
        Claim(
            row.example.question,
            row.example.answer,
            row.candidates[-1]["text"],
            row.example.expected,
        )
        for row in finished
    ]
    for row in rows:
        row.candidates[-1]["guard"] = None
    for row, failures in zip(finished, guard.check(claims), strict=True):
        row.candidates[-1]["guard"] = failures


def _is_good(candidate: dict[str, Any], config: FuseConfig) -> bool:
    """Whether no further round is needed."""
    return is_usable(candidate) and candidate["mean"] >= config.early_stop


def _score_round(
    rows: Sequence[FusionRow], completions: Sequence[Completion], scorers: Mapping[str, Scorer]
) -> None:
    texts = [answer_text(completion.text) for completion in completions]
    grades = {name: scorer(rows, texts) for name, scorer in scorers.items()}
    for i, (row, completion) in enumerate(zip(rows, completions, strict=True)):
        votes = {name: values[i] for name, values in grades.items()}
        finished = completion.finish_reason == "stop" and bool(texts[i])
        row.candidates.append(
            {
                "round": len(row.candidates),
                "text": texts[i],
                "finish_reason": completion.finish_reason,
                "votes": {n: None if v is None else round(v, 4) for n, v in votes.items()},
                "mean": _mean(votes.values()) if finished else None,
            }
            | ({"error": completion.error} if completion.error else {})
        )


def _mean(grades: Iterable[float | None]) -> float:
    """A failed grade counts as 0: it never makes the panel smaller."""
    return round(fmean(grade or 0.0 for grade in grades), 4)


def fused_answer(row: FusionRow, config: FuseConfig) -> FusedAnswer:
    """The training target of a row: best candidate, else kept rewrite, else reference."""
    example, best = row.example, row.best
    if not row.rewrite.passed:
        return FusedAnswer(example.id, example.question, example.answer, "reference")
    if best is None or best["mean"] < config.min_score:
        return FusedAnswer(example.id, example.question, row.rewrite.text, "rewrite")
    return FusedAnswer(example.id, example.question, best["text"], "fused")


def _lineage(row: FusionRow, answer: FusedAnswer) -> dict[str, Any]:
    return {
        "id": row.example.id,
        "question": row.example.question,
        "reference": row.example.answer,
        "rewrite": row.rewrite.text,
        "cosine": row.rewrite.similarity,
        "passed": row.rewrite.passed,
        "reason": row.rewrite.reason,
        "candidates": row.candidates,
        "target": answer.answer,
        "source": answer.source,
    }


def _rejection(row: FusionRow) -> Rejection:
    if not row.rewrite.passed:
        return Rejection(row.example.id, "fuse", "keeps_reference", row.rewrite.reason)
    best = row.best
    detail = "no finished candidate" if best is None else f"best mean {best['mean']}"
    if failed := Counter(rule for c in row.candidates for rule in c.get("guard") or ()):
        detail = detail if best else "no usable candidate"
        counts = ", ".join(f"{rule} {count}" for rule, count in failed.most_common())
        guarded = sum(1 for c in row.candidates if c.get("guard"))
        detail += f"; {guarded} of {len(row.candidates)} failed the guard ({counts})"
    return Rejection(row.example.id, "fuse", "keeps_rewrite", detail)
