"""How many answers the cache of completions has, where the requests are known before a run."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from raft_core.cost.evaluating import Measured
from raft_core.cost.situation import Situation
from raft_core.engines.base import GenerationRequest, Sampling, request_seed
from raft_core.engines.cache import request_keys
from raft_core.errors import InputError

KEYS_A_QUERY = 500


def rewrites_found(at: Situation) -> int:
    """Of the rewrites of all training rows."""
    prompt, sampling = at.settings.rewrite.prompt.load(), at.settings.rewrite.sampling
    requests = [
        GenerationRequest(
            prompt.render(question=row.question, reference=row.answer),
            request_seed(sampling.seed, "rewrite", row.id),
        )
        for row in at.rows.train
    ]
    return found(at, requests, sampling)


def answers_found(at: Situation, asked: Measured) -> int:
    """Of the base's answers to all benchmarks."""
    sampling = at.settings.evaluate.sampling
    requests = [
        GenerationRequest(item.prompt, request_seed(sampling.seed, name, item.id))
        for name, items in asked.items.items()
        for item in items
    ]
    return found(at, requests, sampling)


def found(at: Situation, requests: Sequence[GenerationRequest], sampling: Sampling) -> int:
    """How many of the engine's requests are answered already; 0 where that cannot be known.

    The file is opened for reading alone: nothing is made, and nothing mended.
    """
    file = at.settings.runtime.completions_file
    if at.rows.assumed or not at.settings.runtime.cache_generations or not file.is_file():
        return 0
    try:
        keys = request_keys(at.settings.engine, requests, sampling, None)
        database = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    except (InputError, sqlite3.Error):
        return 0
    try:
        return sum(_known(database, keys[n : n + KEYS_A_QUERY]) for n in _starts(keys))
    except sqlite3.Error:
        return 0
    finally:
        database.close()


def _starts(keys: Sequence[bytes]) -> range:
    return range(0, len(keys), KEYS_A_QUERY)


def _known(database: sqlite3.Connection, keys: Sequence[bytes]) -> int:
    marks = ",".join("?" * len(keys))
    query = f"SELECT count(*) FROM completions WHERE key IN ({marks})"
    return int(database.execute(query, list(keys)).fetchone()[0])
