"""Measure the neighbour search at scale, time, memory, recall: `python -m benchmarks.neighbours`.

The vectors are drawn from a seed as sentence embeddings lie: topics of unequal size, themes in
them, variance that falls off over the dimensions, and a twentieth planted as near-duplicates of
other rows at cosines of 0.9 to 0.995. Each size and case runs in a process of its own. The time is
that of the search, the exact search of its sample included; the memory is the peak of the whole
process (RSS); recall is told twice: against that exact search, and over what was planted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from raft_core.data.neighbours import NearPairs, near_held_out, nearer_rows

WIDTH = 384
HELD_OUT = 10_000
GIB_IN_KIB = 2**20
Array = np.ndarray[Any, Any]


def noise(rng: np.random.Generator, count: int) -> Array:
    """Return directions with a spectrum that falls off, of about unit length."""
    spectrum_D = (1 / np.sqrt(1 + np.arange(WIDTH) / 48)).astype(np.float32)
    spectrum_D /= np.linalg.norm(spectrum_D)
    return rng.standard_normal((count, WIDTH), dtype=np.float32) * spectrum_D


def moved(rng: np.random.Generator, vectors_ND: Array, cosine_N: Array) -> Array:
    """Return unit vectors at these cosines to the given ones."""
    away_ND = noise(rng, len(vectors_ND))
    away_ND -= (away_ND * vectors_ND).sum(axis=1, keepdims=True) * vectors_ND
    away_ND /= np.linalg.norm(away_ND, axis=1, keepdims=True)
    return vectors_ND * cosine_N[:, None] + away_ND * np.sqrt(1 - cosine_N**2)[:, None]


def unit_rows(rng: np.random.Generator, count: int) -> Array:
    topics, themes = max(8, count // 2000), max(16, count // 50)
    topic_of = np.minimum((rng.pareto(1.0, themes) * topics / 20).astype(int), topics - 1)
    themes_TD = noise(rng, topics)[topic_of] * 0.7 + noise(rng, themes) * 0.6
    vectors_ND = np.empty((count, WIDTH), dtype=np.float32)
    for start in range(0, count, 65_536):
        size = min(65_536, count - start)
        block_BD = themes_TD[rng.integers(0, themes, size)] * 0.8 + noise(rng, size) * 0.6
        block_BD /= np.linalg.norm(block_BD, axis=1, keepdims=True)
        vectors_ND[start : start + size] = block_BD
    return vectors_ND


def planted(rng: np.random.Generator, vectors_ND: Array) -> tuple[Array, Array]:
    """Return pairs [P, 2] of rows put near each other, earlier row first, and their cosines."""
    count = len(vectors_ND)
    pairs_P2 = np.sort(rng.permutation(count)[: 2 * (count // 20)].reshape(-1, 2), axis=1)
    cosine_P = rng.uniform(0.9, 0.995, len(pairs_P2)).astype(np.float32)
    for start in range(0, len(pairs_P2), 16_384):
        some = slice(start, start + 16_384)
        source_P, copy_P = pairs_P2[some].T
        vectors_ND[copy_P] = moved(rng, vectors_ND[source_P], cosine_P[some])
    return pairs_P2, cosine_P


def near_duplicates(options: argparse.Namespace) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    vectors_ND = unit_rows(rng, options.vectors)
    pairs_P2, cosine_P = planted(rng, vectors_ND)
    clock = Clock()
    search = NearPairs(vectors_ND, options.threshold, threads=options.threads)
    found = set(search)
    told = clock.told()
    wanted = pairs_P2[cosine_P >= options.threshold + 1e-4].tolist()
    hits = sum((i, j) in found for i, j in wanted)
    return told | {"finds": len(found)} | recalls(search.report, hits / len(wanted))


def decontamination(options: argparse.Namespace) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    vectors_ND = unit_rows(rng, options.vectors)
    # The held-out rows come first; a tenth as many training rows are copies of one.
    leaks = HELD_OUT // 10
    source_P = rng.permutation(HELD_OUT)[:leaks]
    copy_P = HELD_OUT + rng.permutation(options.vectors - HELD_OUT)[:leaks]
    cosine_P = rng.uniform(0.9, 0.995, leaks).astype(np.float32)
    vectors_ND[copy_P] = moved(rng, vectors_ND[source_P], cosine_P)
    clock = Clock()
    near, report = near_held_out(vectors_ND, HELD_OUT, options.threshold, threads=options.threads)
    told = clock.told()
    wanted = copy_P[cosine_P >= options.threshold + 1e-4] - HELD_OUT
    return told | {"finds": int(near.sum())} | recalls(report, float(near[wanted].mean()))


def rank_check(options: argparse.Namespace) -> dict[str, Any]:
    """Search references, half of the vectors, for rewrites; a tenth of these are of another row."""
    rng = np.random.default_rng(0)
    references_MD = unit_rows(rng, options.vectors // 2)
    count = len(references_MD)
    of_N, wrong = np.arange(count), count // 10
    of_N[:wrong] = np.roll(of_N[:wrong], 1)
    queries_ND = np.empty_like(references_MD)
    for start in range(0, count, 65_536):
        some = of_N[start : start + 65_536]
        cosine_B = rng.uniform(0.85, 0.98, len(some)).astype(np.float32)
        queries_ND[start : start + 65_536] = moved(rng, references_MD[some], cosine_B)
    clock = Clock()
    nearest_N, report = nearer_rows(
        queries_ND, references_MD, np.arange(count), threads=options.threads
    )
    told = clock.told()
    hits = float((nearest_N[:wrong] >= 0).mean())
    return told | {"finds": int((nearest_N >= 0).sum())} | recalls(report, hits)


CASES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "near-duplicates": near_duplicates,
    "decontamination": decontamination,
    "rank check": rank_check,
}


class Clock:
    def __init__(self) -> None:
        self._started, self._cpu = time.perf_counter(), time.process_time()

    def told(self) -> dict[str, float]:
        return {
            "seconds": time.perf_counter() - self._started,
            "cpu_seconds": time.process_time() - self._cpu,
            "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB_IN_KIB,
        }


def recalls(report: Any, of_planted: float) -> dict[str, Any]:
    return {
        "kind": report.kind,
        "recall": report.recall,
        "sample": f"{report.found}/{report.true}",
        "recall_planted": of_planted,
    }


def row(vectors: int, case: str, found: dict[str, Any]) -> str:
    recall = "" if found["recall"] is None else f"{found['recall']:.4f}"
    return (
        f"| {vectors:,} | {case} | {found['kind']} | {found['seconds']:.0f} s | "
        f"{found['cpu_seconds']:.0f} s | {found['peak_gib']:.2f} GiB | {found['finds']:,} | "
        f"{recall} ({found['sample']}) | {found['recall_planted']:.4f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--case", choices=CASES, help="measure this one in this process")
    parser.add_argument("--vectors", type=int)
    parser.add_argument("--sizes", type=int, nargs="*", default=[49_999, 200_000, 1_000_000])
    parser.add_argument("--threshold", type=float, default=0.95)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if options.vectors and options.case:
        print(json.dumps(CASES[options.case](options)))
        return
    print("| vectors | case | index | time | CPU | peak memory | finds | recall | of planted |")
    print("| ---: | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    given = ["--threshold", str(options.threshold), "--threads", str(options.threads)]
    for vectors in options.sizes:
        for case in [options.case] if options.case else CASES:
            command = [sys.executable, "-m", "benchmarks.neighbours", *given]
            done = subprocess.run(
                [*command, "--case", case, "--vectors", str(vectors)],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": str(options.threads)},
            )
            print(row(vectors, case, json.loads(done.stdout)), flush=True)


if __name__ == "__main__":
    main()
