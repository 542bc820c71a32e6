"""A builder of small studies: writes the artifacts of cells and runs the stage on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from raft_core.config.runtime import RuntimeConfig
from raft_core.data.records import write_jsonl
from raft_core.evaluation.study.config import Cell, StudyStage
from raft_core.evaluation.study.study import run
from raft_core.execution.progress import Progress
from raft_core.execution.stage import StageRun
from raft_core.store.record import Record

Outcomes = Mapping[str, str]


class StudyFolder:
    """Artifacts below one folder. Outcomes are written as `1101`, one digit a row."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.inputs: dict[str, Path] = {}

    def evaluate(self, cell: Cell, outcomes: Outcomes, frames: int = 2) -> None:
        """Row n of a benchmark asks for fact n // frames."""
        folder = self._folder("evaluate", cell)
        verdicts = [
            {
                "benchmark": name,
                "id": f"{name}-{n // frames:04d}-f{n % frames}",
                "correct": digit == "1",
            }
            for name, digits in outcomes.items()
            for n, digit in enumerate(digits)
        ]
        write_jsonl(folder / "verdicts.jsonl", verdicts)
        scores = {
            name: {"kind": name if name == "domain" else "questions", "undecided": 0}
            for name in outcomes
        }
        (folder / "scores.json").write_text(json.dumps(scores))

    def distill(
        self, cell: Cell, distances: Mapping[str, float], curves: list[dict[str, float]]
    ) -> None:
        folder = self._folder("distill", cell)
        (folder / "weight_distance.json").write_text(json.dumps(distances))
        write_jsonl(folder / "curves.jsonl", curves)
        (folder / "summary.json").write_text(json.dumps({"steps": 300, "rows": 240}))
        record = Record(
            stage="distill",
            key="k",
            version=1,
            identity={},
            config={},
            inputs={},
            read={},
            files={},
            seconds=12.5,
            created="",
            made_by={},
        )
        (folder / "record.json").write_text(record.model_dump_json())

    def run(self, config: StudyStage, out: Path) -> Path:
        out.mkdir(parents=True)
        events = Progress(self.root / "events.jsonl")
        run(StageRun(config, self.inputs, out, self.root, RuntimeConfig(), events))
        return out

    def _folder(self, stage: str, cell: Cell) -> Path:
        name = f"{stage}.{cell.name}"
        self.inputs[name] = self.root / name.replace("/", "_")
        self.inputs[name].mkdir(parents=True)
        return self.inputs[name]


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "artifacts")


@pytest.fixture
def settings() -> Callable[..., StudyStage]:
    """Settings of a study of these cells; anything may be overridden."""

    def make(cells: list[Cell], **changes: Any) -> StudyStage:
        rows = {
            "base": {"label": "base", "groups": ["main"], "trained": False},
            "sft": {"label": "SFT", "groups": ["main"], "learning_rates": {"tiny": 3e-4}},
            "raft": {"label": "RAFT", "groups": ["main"], "learning_rates": {"tiny": 1e-4}},
        }
        values: dict[str, Any] = {
            "title": "A study",
            "command": "make study",
            "rows": rows,
            "cells": cells,
            "benchmarks": ("domain", "general"),
            "retained": ("general",),
            "baseline": "sft",
            "cluster_pattern": r"^(.*)-f\d+$",
            "resamples": 200,
        }
        return StudyStage.model_validate(values | changes)

    return make
