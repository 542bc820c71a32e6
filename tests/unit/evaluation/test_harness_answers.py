"""Answers to lm-evaluation-harness: kept whole or in parts, and never half of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raft_core.config.base import ModelRef
from raft_core.engines.base import TransformersConfig
from raft_core.evaluation import harness_answers
from raft_core.evaluation.harness_answers import PART, answer_in_parts, read_whole, write_whole

GENERATOR = TransformersConfig(model=ModelRef(path="mini:base"))
ROWS = [{"id": f"task/{n}", "prompt": f"ü {n}"} for n in range(100)]


@dataclass
class Model:
    """Ends like a killed process once it was asked for this many parts."""

    parts: int = 100
    asked: list[int] = field(default_factory=list)

    def loglikelihood(self, requests: Sequence[Any]) -> list[Any]:
        return self._answer(requests, lambda text: (-0.5 * len(text), len(text) % 2 == 0))

    def generate_until(self, requests: Sequence[Any]) -> list[Any]:
        return self._answer(requests, lambda text: f"said {text}")

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[Any]:
        return self._answer(requests, lambda text: -1.5 * len(text))

    def _answer(self, requests: Sequence[Any], to: Any) -> list[Any]:
        if len(self.asked) == self.parts:
            raise KeyboardInterrupt
        self.asked.append(len(requests))
        return [to(request.args[0]) for request in requests]


def requests(count: int) -> list[Any]:
    return [SimpleNamespace(args=("x" * (n % 7) + str(n), {"until": ["\n"]})) for n in range(count)]


def opened(folder: Path, parts: int = 100) -> Model:
    model = Model(parts)
    answer_in_parts(model, folder / "harness.sqlite", GENERATOR, print)
    return model


@pytest.mark.parametrize("damage", ["torn", "altered", "empty", "old"])
def test_whole_answers_that_are_not_what_was_written_are_absent(
    damage: str, tmp_path: Path
) -> None:
    file = tmp_path / "harness" / "key.jsonl"
    assert read_whole(file) is None
    write_whole(file, ROWS)
    assert read_whole(file) == ROWS
    content = file.read_bytes()
    changed = {
        "torn": content[: len(content) // 2],
        "altered": content.replace(b"task/60", b"task/61"),
        "empty": b"",
        "old": content.partition(b"\n")[2],
    }
    file.write_bytes(changed[damage])
    assert read_whole(file) is None
    assert [path.name for path in file.parent.iterdir()] == ["key.jsonl"]


@pytest.mark.parametrize("kind", harness_answers.KINDS)
def test_answers_of_a_killed_evaluation_are_asked_for_from_its_last_part_on(
    kind: str, tmp_path: Path
) -> None:
    asked = requests(3 * PART + 10)
    undisturbed = getattr(Model(), kind)(asked)
    with pytest.raises(KeyboardInterrupt):
        getattr(opened(tmp_path, parts=2), kind)(asked)
    model = opened(tmp_path)
    assert getattr(model, kind)(asked) == undisturbed
    assert model.asked == [PART, 10]
    assert getattr(opened(tmp_path, parts=0), kind)(asked) == undisturbed


def test_answers_of_other_requests_or_another_release_are_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(tmp_path).generate_until(requests(3))
    model = opened(tmp_path)
    model.generate_until(requests(4))
    model.loglikelihood(requests(3))
    assert model.asked == [4, 3]
    monkeypatch.setattr(harness_answers, "installed_versions", lambda _: {"torch": "99"})
    later = opened(tmp_path)
    later.generate_until(requests(3))
    assert later.asked == [3]
