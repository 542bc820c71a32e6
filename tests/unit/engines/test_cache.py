"""Completions on disk: what comes back, who may write at once, and what a broken file costs."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raft_core.engines.base import (
    Completion,
    GenerationRequest,
    GeneratorConfig,
    OpenAIConfig,
    Sampling,
    TransformersConfig,
    VllmConfig,
)
from raft_core.engines.cache import CompletionCache, request_keys

ROOT = Path(__file__).resolve().parents[3]
BASE = {"path": "mini:base"}
CONFIG = VllmConfig(model=BASE)
ENDPOINT = OpenAIConfig(endpoint="here", model="m")
WARM = Sampling(temperature=0.7)
SAID = Completion('Grüße \ud800 "quoted"\n', (5, 6), "stop")

WRITER = """
import sys
from pathlib import Path
from raft_core.engines.base import Completion
from raft_core.engines.cache import CompletionCache
cache = CompletionCache(Path(sys.argv[1]), lambda text: sys.exit(text))
first = int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for n in range(first, first + 400):
    key = n.to_bytes(32, "big")
    cache.find([key])
    cache.add({key: Completion(f"text {n}", (n,), "stop")})
"""


def key_of(number: int) -> bytes:
    return number.to_bytes(32, "big")


def fill(path: Path, count: int) -> None:
    cache = CompletionCache(path, pytest.fail)
    cache.add({key_of(n): Completion("word " * 50, (n,), "stop") for n in range(count)})
    cache.close()


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def cache(tmp_path: Path, warnings: list[str]) -> CompletionCache:
    return CompletionCache(tmp_path / "home" / "generations.sqlite", warnings.append)


def test_cache_completion_comes_back_as_it_went_in(
    cache: CompletionCache, tmp_path: Path, warnings: list[str]
) -> None:
    cache.add({key_of(1): SAID, key_of(2): Completion("", (), "length")})
    again = CompletionCache(tmp_path / "home" / "generations.sqlite", warnings.append)
    wanted = [key_of(n) for n in (2, 3, 1)]
    assert again.find(wanted) == {key_of(1): SAID, key_of(2): Completion("", (), "length")}
    assert warnings == []


def test_cache_finds_more_keys_than_one_query_takes(cache: CompletionCache) -> None:
    said = {key_of(n): Completion(str(n), (n,), "stop") for n in range(1201)}
    cache.add(said)
    assert cache.find(list(said)) == said


def test_cache_of_two_completions_under_one_key_the_first_stays(cache: CompletionCache) -> None:
    cache.add({key_of(1): SAID})
    cache.add({key_of(1): Completion("another", (), "stop")})
    assert cache.find([key_of(1)]) == {key_of(1): SAID}


def test_cache_not_asked_writes_no_file(cache: CompletionCache, tmp_path: Path) -> None:
    assert cache.find([]) == {}
    assert not (tmp_path / "home").exists()


def test_cache_three_processes_write_at_once_and_nothing_is_lost(
    cache: CompletionCache, tmp_path: Path, warnings: list[str]
) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "home" / "generations.sqlite")]
    writers = [
        subprocess.Popen(
            [*command, str(first)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for first in (0, 200, 400)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        _, told = writer.communicate(timeout=120)
        assert (writer.returncode, told) == (0, "")
    found = cache.find([key_of(n) for n in range(800)])
    assert {key: c.text for key, c in found.items()} == {key_of(n): f"text {n}" for n in range(800)}
    assert warnings == []


def no_database(path: Path) -> None:
    path.write_bytes(b"not a database at all " * 400)


def torn_in_the_middle(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


@pytest.mark.parametrize("damage", [no_database, torn_in_the_middle])
def test_cache_damaged_file_is_moved_aside_with_one_warning(
    cache: CompletionCache,
    tmp_path: Path,
    warnings: list[str],
    damage: Callable[[Path], None],
) -> None:
    path = tmp_path / "home" / "generations.sqlite"
    path.parent.mkdir()
    fill(path, 500)
    damage(path)
    damaged = path.read_bytes()
    assert cache.find([key_of(n) for n in range(500)]) == {}
    cache.add({key_of(1): SAID})
    assert cache.find([key_of(1), key_of(2)]) == {key_of(1): SAID}
    assert path.with_name("generations.sqlite.damaged").read_bytes() == damaged
    (warning,) = warnings
    assert "moved aside" in warning


def test_cache_unreadable_rows_cost_themselves_and_are_told_once(
    cache: CompletionCache, tmp_path: Path, warnings: list[str]
) -> None:
    path = tmp_path / "home" / "generations.sqlite"
    path.parent.mkdir()
    fill(path, 500)
    with sqlite3.connect(path) as database:  # as a later release may write them
        key = database.execute("SELECT key FROM completions").fetchone()[0]
        row = database.execute("SELECT completion FROM completions").fetchone()[0]
        changed = json.dumps(json.loads(row) | {"logprobs": []})
        for one in (key, key_of(499)):
            database.execute("UPDATE completions SET completion = ? WHERE key = ?", (changed, one))
    assert len(cache.find([key_of(n) for n in range(500)])) == 498
    cache.add({key_of(499): SAID})
    assert cache.find([key_of(499)]) == {key_of(499): SAID}
    (warning,) = warnings
    assert "made again" in warning
    assert not path.with_name("generations.sqlite.damaged").exists()


def test_cache_damage_that_another_process_has_mended_is_left_alone(
    cache: CompletionCache, tmp_path: Path, warnings: list[str]
) -> None:
    path = tmp_path / "home" / "generations.sqlite"
    path.parent.mkdir()
    fill(path, 500)
    cache.find([key_of(900)])  # holds the file open
    torn_in_the_middle(path)
    late = CompletionCache(path, warnings.append)
    late.find([key_of(900)])
    assert len(cache.find([key_of(1)])) == 0  # moves it aside
    cache.add({key_of(1): SAID})
    assert late.find([key_of(2)]) == {}  # meets the damage in the old file
    assert late.find([key_of(1)]) == {key_of(1): SAID}
    assert len(warnings) == 1


def test_cache_where_no_file_can_be_one_warning_and_no_failure(
    tmp_path: Path, warnings: list[str]
) -> None:
    (tmp_path / "home").write_text("a file")
    cache = CompletionCache(tmp_path / "home" / "generations.sqlite", warnings.append)
    for _ in range(2):
        cache.add({key_of(1): SAID})
        assert cache.find([key_of(1)]) == {}
    (warning,) = warnings
    assert "not cached" in warning


def key(
    config: GeneratorConfig = CONFIG,
    sampling: Sampling = WARM,
    choices: tuple[str, ...] | None = None,
    json_schema: dict[str, Any] | None = None,
    **request: Any,
) -> bytes:
    asked = [GenerationRequest(**{"prompt": "a", "seed": 1} | request)]
    (only,) = request_keys(config, asked, sampling, choices, json_schema)
    return only


FORKS = {
    "prompt": key(prompt="b"),
    "seed": key(seed=2),
    "temperature": key(sampling=Sampling(temperature=0.8)),
    "top_p": key(sampling=Sampling(temperature=0.7, top_p=0.9)),
    "max_tokens": key(sampling=Sampling(temperature=0.7, max_tokens=9)),
    "choices": key(choices=("yes", "no")),
    "order of choices": key(choices=("no", "yes")),
    "schema": key(json_schema={"type": "object"}),
    "another schema": key(json_schema={"type": "array"}),
    "model": key(VllmConfig(model={"path": "mini:peer"})),
    "engine": key(TransformersConfig(model=BASE)),
    "dtype": key(VllmConfig(model=BASE, dtype="float32")),
    "max_model_len": key(VllmConfig(model=BASE, max_model_len=384)),
    "thinking": key(VllmConfig(model=BASE, enable_thinking=True)),
    "endpoint": key(ENDPOINT),
    "endpoint's model": key(ENDPOINT.model_copy(update={"model": "n"})),
    "endpoint's model version": key(ENDPOINT.model_copy(update={"model_version": "2"})),
    "extra body": key(ENDPOINT.model_copy(update={"extra_body": {"top_k": 1}})),
}


def test_key_each_thing_that_decides_a_completion_forks_it() -> None:
    assert len({key(), *FORKS.values()}) == len(FORKS) + 1


def test_key_forks_with_the_engines_release(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key()
    monkeypatch.setattr("raft_core.store.keyed_file.version", lambda package: "0.0")
    assert key() != before


def test_key_same_model_elsewhere_same_key(tmp_path: Path) -> None:
    import shutil

    from raft_core.config.base import PACKAGE_ROOT

    shutil.copytree(PACKAGE_ROOT / "mini" / "base", tmp_path / "copy")
    assert key(VllmConfig(model={"path": str(tmp_path / "copy")})) == key()


def test_key_no_choices_and_none_are_one() -> None:
    assert key(choices=()) == key(choices=None)
