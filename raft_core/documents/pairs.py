"""Stage `pairs`: the pairs that are kept, with where each comes from, and everything that is not.

In = kept + rejected over the whole way: every document, passage or pair that goes no further
stands in rejected.jsonl once, under the stage that it ended in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from raft_core.data.records import Rejection, read_jsonl, read_records, write_jsonl
from raft_core.documents.records import Pair, Passage
from raft_core.documents.report import report
from raft_core.execution.stage import StageRun
from raft_core.refine.prepare import comparable_words

STAGE = "pairs"
BEFORE = ("passages", "ask", "vote")
Row = dict[str, Any]
Record = TypeVar("Record")


def run(stage: StageRun) -> None:
    """Writes pairs.jsonl, rejected.jsonl, counts.json, summary.json and report.md."""
    folders = {name: shards(stage.inputs, name) for name in BEFORE}
    rejected = [r for name in BEFORE for r in _records(folders[name], "rejected.jsonl", Rejection)]
    passages = {p.id: p for p in _records(folders["passages"], "passages.jsonl", Passage)}
    pairs = _records(folders["ask"], "proposed.jsonl", Pair)
    votes = {row["id"]: row["votes"] for row in _rows(folders["vote"], "votes.jsonl")}
    proposer, voters = _about(folders["ask"], "proposer"), _about(folders["vote"], "voters")

    gone = {rejection.id for rejection in rejected if rejection.stage == "vote"}
    stage.progress.start(STAGE, len(pairs))
    kept, repeated = drop_repeated([pair for pair in pairs if pair.id not in gone])
    rejected += repeated
    cast = {pair.id: [named(vote, voters) for vote in votes[pair.id]] for pair in pairs}
    rows = [with_provenance(p, passages[p.passage], proposer, cast[p.id]) for p in kept]
    write_jsonl(stage.out / "pairs.jsonl", rows)
    counts = {name: _counts(folders[name]) for name in BEFORE}
    rows_in = sum(counts["passages"]["rejected"].values()) + counts["ask"]["in"]
    stage.account(rows_in, len(kept), rejected)
    asked = {pair.id: pair for pair in pairs}
    with_texts = [readable(rejection, asked, cast) for rejection in rejected]
    write_jsonl(stage.out / "rejected.jsonl", with_texts)
    counts[STAGE] = counted(len(kept) + len(repeated), repeated)
    documents = sum(1 for _ in _rows(folders["passages"], "documents.jsonl"))
    summary = {"documents": documents, "pairs": len(kept), "stages": counts}
    (stage.out / "summary.json").write_text(json.dumps(summary, indent=1))
    (stage.out / "report.md").write_text(report(summary, rows), encoding="utf-8")
    stage.progress.advance(len(pairs))


def shards(inputs: Mapping[str, Path], name: str) -> list[Path]:
    """The folders of one stage's artifacts, in the order of its shards."""
    return [inputs[key] for key in sorted(inputs) if key.partition(".")[0] == name]


def drop_repeated(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Rejection]]:
    """Keep the first of pairs whose questions have the same words; near ones are prepare's work."""
    kept: dict[tuple[str, ...], Pair] = {}
    rejected = []
    for pair in pairs:
        words = comparable_words(pair.question)
        if words in kept:
            detail = f"of {kept[words].id}"
            rejected.append(Rejection(pair.id, STAGE, "question_duplicate", detail))
        else:
            kept[words] = pair
    return list(kept.values()), rejected


def named(vote: Row, voters: Mapping[str, Row]) -> Row:
    """A vote with the model that cast it."""
    about = voters[vote["voter"]]
    return vote | {name: about[name] for name in ("model", "model_digest", "prompt_digest", "seed")}


def with_provenance(pair: Pair, passage: Passage, proposer: Row, votes: Sequence[Row]) -> Row:
    """A row of domain data; what `prepare` does not read says where it comes from."""
    expected = {"expected": list(pair.expected)} if pair.expected else {}
    return {
        "id": pair.id,
        "question": pair.question,
        "answer": pair.answer,
        **expected,
        "document": passage.document,
        "source": passage.source,
        "title": passage.title,
        "heading": passage.heading,
        "passage": passage.id,
        "start": passage.start,
        "end": passage.end,
        "sha256": passage.sha256,
        "asked_by": proposer,
        "votes": list(votes),
    }


def readable(
    rejection: Rejection, pairs: Mapping[str, Pair], cast: Mapping[str, Sequence[Row]]
) -> Row:
    """A rejection, with the pair's texts and votes where it is one of a pair."""
    row = {
        "id": rejection.id,
        "stage": rejection.stage,
        "reason": rejection.reason,
        "detail": rejection.detail,
    }
    pair = pairs.get(rejection.id) if rejection.stage in ("vote", STAGE) else None
    if pair is None:
        return row
    votes = list(cast[pair.id])
    return row | {"question": pair.question, "answer": pair.answer, "votes": votes}


def counted(rows_in: int, rejections: Sequence[Rejection]) -> Row:
    reasons: dict[str, int] = {}
    for rejection in rejections:
        reasons[rejection.reason] = reasons.get(rejection.reason, 0) + 1
    return {"in": rows_in, "kept": rows_in - len(rejections), "rejected": reasons}


def _counts(folders: Sequence[Path]) -> Row:
    """The counts of all shards of a stage together."""
    total: Row = {"in": 0, "kept": 0, "rejected": {}}
    for folder in folders:
        counts = json.loads((folder / "counts.json").read_text())
        for name in ("in", "kept"):
            total[name] += counts[name]
        for reason, count in counts["rejected"].items():
            total["rejected"][reason] = total["rejected"].get(reason, 0) + count
    return total


def _rows(folders: Sequence[Path], name: str) -> list[Row]:
    return [row for folder in folders for row in read_jsonl(folder / name)]


def _records(folders: Sequence[Path], name: str, kind: type[Record]) -> list[Record]:
    return [record for folder in folders for record in read_records(folder / name, kind)]


def _about(folders: Sequence[Path], name: str) -> Row:
    """What the shards say of their models; they are of one configuration."""
    about: Row = json.loads((folders[0] / f"{name}.json").read_text())
    return about
