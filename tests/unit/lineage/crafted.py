"""Crafted outputs of the stages before the lineage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from raft_core.app.settings import load_settings
from raft_core.config.base import FrozenConfig, fingerprint
from raft_core.data.records import Example, FusedAnswer, Rejection, Rewrite, write_jsonl
from raft_core.execution.shards import Shard
from raft_core.store.record import Record, stage_key, write_record

SETTINGS = load_settings("mini", "law")
HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)><!-- {{ 7*7 }} \u2028 &amp;"
)
ARABIC = "العاصمة هي \u202eالرياض"
JAPANESE = "首都は東京です。"
Run = Callable[..., Path]


def verdict(row_id: str, text: str, **other: Any) -> dict[str, Any]:
    """A row of filtered.jsonl."""
    plain = {"id": row_id, "text": text, "similarity": 0.9, "passed": True}
    return plain | {"reason": "", "detail": ""} | other


def candidate(number: int, text: str, mean: float | None, **other: Any) -> dict[str, Any]:
    votes = {"coverage_1": mean, "llm_2": None}
    finish = {"round": number, "text": text, "finish_reason": "stop", "votes": votes, "mean": mean}
    return finish | other


class Crafted:
    """Folders of the input artifacts, filled row by row and written at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.train: list[Example] = []
        self.held_out: list[Example] = []
        self.dropped: list[tuple[Example, Rejection]] = []
        self.rewrites: dict[str, Rewrite] = {}
        self.verdicts: dict[str, dict[str, Any]] = {}
        self.fusions: dict[str, tuple[FusedAnswer, list[dict[str, Any]] | None]] = {}

    def add(
        self,
        example: Example,
        verdict: dict[str, Any],
        target: tuple[str, Any],
        candidates: list[dict[str, Any]] | None = None,
        rewrite: Rewrite | None = None,
    ) -> None:
        """A training row; `target` is its answer and its source."""
        self.train.append(example)
        made = Rewrite(example.id, verdict["text"], "stop", 7)
        self.rewrites[example.id] = rewrite or made
        self.verdicts[example.id] = verdict
        self.fusions[example.id] = (
            FusedAnswer(example.id, example.question, *target), candidates
        )  # fmt: skip

    def write(self, *, shards: int = 1, texts_of_dropped: bool = True) -> dict[str, Path]:
        """The inputs of the stage by name."""
        prepared = self._prepared(texts_of_dropped)
        inputs = {"prepare": prepared}
        filter_config = SETTINGS.filter_stage()
        inputs["filter"] = self._artifact("filter", filter_config)
        rows = (self.verdicts[e.id] for e in self.train)
        write_jsonl(inputs["filter"] / "filtered.jsonl", rows)
        for index in range(shards):
            shard = Shard(index=index, of=shards)
            mine = [e.id for e in shard.rows(self.train)]
            name = f"{index:05d}"
            folder = inputs[f"rewrite.{name}"] = self._artifact(
                "rewrite", SETTINGS.rewrite_stage(shard), name
            )
            write_jsonl(folder / "rewrites.jsonl", (self.rewrites[i] for i in mine))
            folder = inputs[f"fuse.{name}"] = self._artifact(
                "fuse", SETTINGS.fuse_stage(shard), name
            )
            write_jsonl(folder / "lineage.jsonl", map(self._fused, mine))
            rejected = [i for i in mine if self.fusions[i][0].source != "fused"]
            write_jsonl(folder / "rejected.jsonl", map(self._kept, rejected))
        return inputs

    def _prepared(self, texts_of_dropped: bool) -> Path:
        folder = self._artifact("prepare", SETTINGS.prepare_stage())
        write_jsonl(folder / "train.jsonl", self.train)
        for split in ("validation", "test"):
            rows = [e for e in self.held_out if e.split == split]
            write_jsonl(folder / f"{split}.jsonl", rows)
        write_jsonl(folder / "rejected.jsonl", (r for _, r in self.dropped))
        if texts_of_dropped:
            write_jsonl(folder / "rejected_rows.jsonl", (e for e, _ in self.dropped))
        count = len(self.train) + len(self.held_out) + len(self.dropped)
        (folder / "counts.json").write_text(f'{{"in": {count}}}')
        return folder

    def _fused(self, row_id: str) -> dict[str, Any]:
        answer, candidates = self.fusions[row_id]
        told = {"id": row_id, "target": answer.answer, "source": answer.source}
        return told if candidates is None else told | {"candidates": candidates}

    def _kept(self, row_id: str) -> Rejection:
        source = self.fusions[row_id][0].source
        return Rejection(row_id, "fuse", f"keeps_{source}", "of fuse")

    def _artifact(self, stage_name: str, config: FrozenConfig, shard: str = "") -> Path:
        folder = self.root / f"{stage_name}{shard}"
        folder.mkdir(parents=True, exist_ok=True)
        identity = fingerprint(config)
        record = Record(
            stage=stage_name,
            key=stage_key(stage_name, 1, identity, {}),
            version=1,
            identity=identity,
            config=config.model_dump(mode="json"),
            inputs={},
            read={},
            files={},
            seconds=0,
            created="",
            made_by={},
        )
        write_record(folder, record)
        return folder


def example(row_id: str, split: Any = "train", answer: str = "it is red") -> Example:
    return Example(row_id, f"what is {row_id}?", answer, split, ("red",))
