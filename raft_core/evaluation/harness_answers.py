"""What a model answered to tasks of lm-evaluation-harness, kept so that it is asked once.

A benchmark's answers are one file with its own digest. Until that is written, requests are answered
in parts that are kept one by one: a killed evaluation asks again for one part at most. A part is
always made of the same requests, so that what shares a batch, and so every rounding, is the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from raft_core.config.base import fingerprint
from raft_core.engines.base import GeneratorConfig
from raft_core.engines.cache import ENGINE_PACKAGES
from raft_core.store.keyed_file import KeyedFile, digest, installed_versions

PART = 256
KINDS = ("loglikelihood", "loglikelihood_rolling", "generate_until")
PACKAGES = ("lm_eval", "torch")


def made_by(generator: GeneratorConfig) -> dict[str, Any]:
    """What answers: the model, and the releases of what runs it."""
    packages = (*ENGINE_PACKAGES[generator.kind], *PACKAGES)
    return {"model": fingerprint(generator), "packages": installed_versions(packages)}


def write_whole(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """The rows under a line that tells their digest, in one step and for good."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode()
    partial = file.with_suffix(f".{os.getpid()}.partial")
    with open(partial, "wb") as handle:
        handle.write(json.dumps({"sha256": hashlib.sha256(content).hexdigest()}).encode() + b"\n")
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    partial.replace(file)


def read_whole(file: Path) -> list[dict[str, Any]] | None:
    """The rows, or None where there are none that are what was written."""
    try:
        head, _, content = file.read_bytes().partition(b"\n")
        told = json.loads(head)["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if told != hashlib.sha256(content).hexdigest():
        return None
    return [json.loads(line) for line in content.splitlines()]


def answer_in_parts(
    model: Any, file: Path, generator: GeneratorConfig, warn: Callable[[str], None]
) -> None:
    """Make a harness's model keep what it answers, in place."""
    kept = KeyedFile(file, "answers", "answer TEXT", warn)
    maker = digest(made_by(generator)).hex()
    for kind in KINDS:
        setattr(model, kind, _in_parts(getattr(model, kind), kind, maker, kept))


def _in_parts(
    answer: Callable[..., list[Any]], kind: str, maker: str, kept: KeyedFile
) -> Callable[..., list[Any]]:
    @wraps(answer)
    def answered(requests: Sequence[Any], *args: Any, **kwargs: Any) -> list[Any]:
        found: list[Any] = []
        for start in range(0, len(requests), PART):
            part = requests[start : start + PART]
            # By their text: a task may hand over objects that JSON does not know.
            asked = [json.dumps(request.args, default=str, sort_keys=True) for request in part]
            key = digest(maker, kind, asked)
            answers = kept.find([key], _parsed).get(key)
            if answers is None or len(answers) != len(part):
                answers = answer(part, *args, **kwargs)
                kept.add({key: json.dumps(answers)})
            found += answers
        return found

    return answered


def _parsed(text: str) -> list[Any]:
    """Answers as the harness gives them: what it compares is a pair."""
    try:
        return [tuple(each) if isinstance(each, list) else each for each in json.loads(text)]
    except (ValueError, TypeError):
        raise sqlite3.DataError("a row holds no answers") from None
