"""The rows that a run would work on, as far as they can be known without running `prepare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from raft_core.app.settings import Settings
from raft_core.data.records import SPLITS, Example, Split, read_jsonl, read_records
from raft_core.refine.prepare import (
    drop_exact_duplicates,
    load_examples,
    require_splits,
    split_by_hash,
)

# Where no data is named: what the method's paper trains on, and lengths of ours.
ASSUMED_ROWS = 2000
ASSUMED_QUESTION, ASSUMED_ANSWER = 240, 1000

Splits = Mapping[Split, Sequence[Example]]


@dataclass(frozen=True)
class DomainRows:
    """Rows by split. `exact` where `prepare` has been here; else they are upper bounds."""

    splits: Splits
    read: int
    source: str
    exact: bool = False
    assumed: bool = False

    @property
    def train(self) -> Sequence[Example]:
        return self.splits["train"]

    @property
    def counts(self) -> dict[Split, int]:
        return {split: len(self.splits[split]) for split in SPLITS}


def prepared_rows(folder: Path) -> DomainRows:
    """Those of a `prepare` artifact."""
    splits: Splits = {split: read_records(folder / f"{split}.jsonl", Example) for split in SPLITS}
    rejected = sum(1 for _ in read_jsonl(folder / "rejected.jsonl"))
    read = sum(map(len, splits.values())) + rejected
    return DomainRows(splits, read, "prepared before: these are the rows", exact=True)


def expected_rows(settings: Settings) -> DomainRows:
    """Those of the domain's data: read, checked, limited and split as `prepare` does.

    Near-duplicates are not looked for, which needs the encoder: `prepare` may keep fewer rows.

    Raises:
        InputError: the data cannot be used.
    """
    examples = load_examples(settings.domain, settings.prepare)
    kept, _ = drop_exact_duplicates(examples)
    require_splits(kept, settings.domain)
    splits: Splits = {split: [e for e in kept if e.split == split] for split in SPLITS}
    return DomainRows(
        splits, len(examples), "without exact duplicates; near-duplicates are not known: at most"
    )


def assumed_rows(settings: Settings) -> DomainRows:
    """Rows of one length, for a profile that is asked about without any data."""
    question, answer = "x" * ASSUMED_QUESTION, "x" * ASSUMED_ANSWER
    rows = [
        Example(str(n), question, answer, split_by_hash(str(n), settings.prepare))
        for n in range(ASSUMED_ROWS)
    ]
    splits: Splits = {split: [row for row in rows if row.split == split] for split in SPLITS}
    said = (
        f"no data named: {ASSUMED_ROWS:,} rows assumed, each a question of {ASSUMED_QUESTION} and "
        f"an answer of {ASSUMED_ANSWER:,} characters"
    )
    return DomainRows(splits, ASSUMED_ROWS, said, assumed=True)
