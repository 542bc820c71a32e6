"""The rows of the lineage: what every stage said of each domain row, joined as the files are read.

All files of the training rows are in one order, those of shards dealt out in turn, so that no
file is held in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from raft_core.data.records import read_jsonl
from raft_core.errors import StageError
from raft_core.execution.inputs import Inputs
from raft_core.lineage.provenance import MadeWith

STATUSES = ("fused", "kept_rewrite", "kept_reference", "held_out", "dropped")
STATUS_OF_SOURCE = {"fused": "fused", "rewrite": "kept_rewrite", "reference": "kept_reference"}
# Absent in artifacts that were made before `prepare` kept the texts of what it drops.
DROPPED_TEXTS = "rejected_rows.jsonl"
Row = dict[str, Any]


class InStep:
    """Files whose rows follow the order of others, some left out; one per shard."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._shards = [read_jsonl(file) if file.is_file() else iter(()) for file in files]
        self._heads = [next(shard, None) for shard in self._shards]

    def take(self, place: int, row_id: str) -> Row | None:
        """The row of this id, or None where it was left out; `place` counts the others' rows."""
        shard = place % len(self._shards)
        head = self._heads[shard]
        if head is None or head["id"] != row_id:
            return None
        self._heads[shard] = next(self._shards[shard], None)
        return head

    def require_end(self, what: str) -> None:
        """Every row was taken.

        Raises:
            StageError: one belongs to no other row, or the order differs.
        """
        left = [head["id"] for head in self._heads if head is not None]
        if left:
            raise StageError(f"lineage: the {what} of row '{left[0]}' belongs to no row of its own")


def lineage_rows(inputs: Inputs, made: Mapping[str, MadeWith]) -> Iterator[Row]:
    """Training rows in their order, then validation, test, and what `prepare` dropped."""
    yield from _training_rows(inputs, made)
    prepared = inputs["prepare"]
    for split in ("validation", "test"):
        for example in read_jsonl(prepared / f"{split}.jsonl"):
            yield _row(example, made, ("prepare",), status="held_out", decided_by="prepare")
    texts = InStep([prepared / DROPPED_TEXTS])
    for place, rejection in enumerate(read_jsonl(prepared / "rejected.jsonl")):
        example = texts.take(place, rejection["id"]) or {"id": rejection["id"]}
        verdict = {"kept": False, **_why(rejection)}
        decided = {"status": "dropped", "decided_by": "prepare", **_why(rejection)}
        yield _row(example, made, ("prepare",), **decided, prepare=verdict)
    texts.require_end("text")


def _training_rows(inputs: Inputs, made: Mapping[str, MadeWith]) -> Iterator[Row]:
    files = {
        "rewrite": [folder / "rewrites.jsonl" for folder in inputs.all("rewrite")],
        "filter": [folder / "filtered.jsonl" for folder in inputs.all("filter")],
        "fusion": [folder / "lineage.jsonl" for folder in inputs.all("fuse")],
        "rejection": [folder / "rejected.jsonl" for folder in inputs.all("fuse")],
    }
    said = {what: InStep(shards) for what, shards in files.items() if shards}
    for place, example in enumerate(read_jsonl(inputs["prepare"] / "train.jsonl")):
        of_row = {what: lines.take(place, example["id"]) for what, lines in said.items()}
        for what in said.keys() & {"filter", "fusion"}:
            if of_row[what] is None:
                raise StageError(f"lineage: row '{example['id']}' has no {what}")
        yield _training_row(example, of_row, made)
    for what, lines in said.items():
        lines.require_end(what)


def _training_row(example: Row, said: Mapping[str, Any], made: Mapping[str, MadeWith]) -> Row:
    """Return what the stages of the run say of a row; without a filter it is kept as it is."""
    verdict, fusion = said.get("filter"), said.get("fusion")
    if verdict is None:
        answer = {"target": example["answer"], "target_source": "reference"}
        decided = {"status": "kept_reference", "decided_by": "prepare"}
        return _row(example, made, ("prepare",), **decided, **answer)
    rewrite, passed = said["rewrite"], verdict["passed"]
    stages = ["prepare", "rewrite", "filter"]
    told = {
        "status": "kept_rewrite" if passed else "kept_reference",
        "decided_by": "filter",
        **_why({} if passed else verdict),
        "rewrite": None if rewrite is None else _rewrite(rewrite),
        "filter": {
            "similarity": verdict["similarity"],
            "passed": passed,
            **_why(verdict),
            "guard": _guard(verdict.get("guard")),
        },
    }
    if fusion is not None:
        stages += ["fuse"] if passed else []
        told |= _fused(fusion, said["rejection"] or {}, passed)
    return _row(example, made, stages, **told)


def _fused(fusion: Row, rejection: Row, passed: bool) -> Row:
    """Return what the fusion says of a row; it decides where the rewrite passed the filter."""
    decided = {"decided_by": "fuse", **_why(rejection)} if passed else {}
    return {
        "status": STATUS_OF_SOURCE[fusion["source"]],
        **decided,
        "fuse": {"kept": not rejection, **_why(rejection)},
        "candidates": _candidates(fusion),
        "target": fusion["target"],
        "target_source": fusion["source"],
    }


def _row(example: Row, made: Mapping[str, MadeWith], stages: Sequence[str], **decided: Any) -> Row:
    """A row with null for whatever no stage has said."""
    answer = {"id": example["id"], "split": example.get("split")}
    texts = {"question": example.get("question"), "reference": example.get("answer")}
    nothing = dict.fromkeys(
        ("reason", "detail", "rewrite", "filter", "fuse", "candidates", "target", "target_source")
    )
    return (
        answer
        | texts
        | {"expected": list(example.get("expected") or ())}
        | {"prepare": {"kept": True, "reason": None, "detail": None}}
        | nothing
        | {"made_with": list(chain.from_iterable(made.get(stage, ()) for stage in stages))}
        | decided
    )


def _why(said: Mapping[str, Any]) -> dict[str, str | None]:
    """Reason and detail; a detail of what was kept is no reason."""
    return {"reason": said.get("reason") or None, "detail": said.get("detail") or None}


def _rewrite(rewrite: Row) -> Row:
    said = {name: rewrite[name] for name in ("text", "finish_reason", "tokens")}
    return said | {"error": rewrite.get("error") or None}


def _candidates(fusion: Row) -> list[Row]:
    """The candidates, and which of them became the target."""
    rows = [
        {
            "round": candidate["round"],
            "text": candidate["text"],
            "finish_reason": candidate["finish_reason"],
            "error": candidate.get("error"),
            "mean": candidate["mean"],
            "chosen": False,
            "votes": [{"judge": j, "grade": g} for j, g in candidate.get("votes", {}).items()],
            "guard": _guard(candidate.get("guard")),
        }
        for candidate in fusion.get("candidates", ())
    ]
    if fusion["source"] == "fused":
        same = [row for row in rows if row["text"] == fusion["target"] and row["mean"] is not None]
        if same:
            max(same, key=lambda row: row["mean"])["chosen"] = True
    return rows


def _guard(verdict: Mapping[str, Any] | None) -> list[Row] | None:
    if verdict is None:
        return None
    return [{"rule": rule, "failed": str(failed)} for rule, failed in verdict.items()]
