"""The GPU benchmark's counting, report and way with failures: what needs no GPU."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu
from benchmarks.gpu_cases import TINY, Section, Shape, sections
from benchmarks.gpu_flops import Lengths, step_flops
from benchmarks.gpu_report import report

ONE_LAYER = Shape("one", 1, 2, 1, 1, 2, 3, 10)


def test_shape_weights_of_a_layer_by_hand() -> None:
    # q, k, v, o are 2 x 2 each; gate, up and down 2 x 3 each.
    assert ONE_LAYER.linears == 4 * 4 + 3 * 6
    assert ONE_LAYER.adapter(1) == 4 * (2 + 2) + 3 * (2 + 3)


def test_step_flops_of_one_answer_by_hand() -> None:
    rows = [Lengths(prompt=3, answer=2, teacher=9, rollout=4)]

    flops = step_flops(ONE_LAYER, rows, rank=None, recomputes=True, distills=False)

    linear, attention, output = 2 * 34 * 5, 2 * 1 * 2 * 25, 2 * 10 * 2 * 2
    assert flops.forward == linear + attention + output
    assert flops.backward == 2 * flops.forward
    assert flops.recomputed == linear + attention
    assert flops.teacher == flops.rollout == 0


def test_step_flops_under_an_adapter_spare_the_base_its_gradients() -> None:
    rows = [Lengths(prompt=3, answer=2, teacher=9, rollout=4)]

    flops = step_flops(ONE_LAYER, rows, rank=1, recomputes=False, distills=True)

    linear, attention, output = 2 * 34 * (5 + 7), 4 * (25 + 49), 40 * (2 + 4)
    adapter = 2 * 31 * (5 + 7)
    assert flops.forward == linear + attention + output + adapter
    assert flops.backward == linear + 2 * attention + output + 2 * adapter
    assert flops.recomputed == 0
    assert flops.teacher == 2 * 34 * 13 + 4 * 169 + 40 * 4


class Dying:
    """A section's process that answers one case and dies in the next."""

    started: list[list[str]] = []

    def __init__(self, section: Section, options: argparse.Namespace, work: Path) -> None:
        self._section = section.name

    def answers(
        self, cases: Sequence[str], seconds: float, last: float
    ) -> Iterator[dict[str, Any]]:
        self.started.append(list(cases))
        yield {"section": self._section, "case": cases[0], "took": 1.0}

    def crash(self) -> str:
        return "the process ended with -9"

    def end(self) -> None:
        pass


def test_a_process_that_dies_costs_the_case_that_it_died_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "Process", Dying)
    Dying.started = []
    options = argparse.Namespace(
        tiny=True, sections=["checks"], device="cpu", seconds=9.0, json=tmp_path / "gpu.json"
    )

    run = gpu.Run(options, tmp_path)
    run.measure()

    assert [one.get("error") for one in run.raw["results"]] == [
        None,
        "the process ended with -9",
        None,
    ]
    assert Dying.started == [["rates", "losses", "step"], ["step"]]
    assert (tmp_path / "gpu-raw.json").is_file()


def test_report_tells_what_did_not_fit_and_what_failed() -> None:
    tokens = f"{TINY.objective_tokens[0]} tokens"
    measured = {"seconds": [0.1, 0.2], "gib": 0.5}
    variants = {"chunked": measured, "dense": measured, "jsd": {"error": "out of memory"}}
    results = [
        {"section": "objective", "case": tokens, "tokens": 32, "variants": variants},
        {"section": "checks", "case": "rates", "error": "no time was left"},
    ]

    found = report([{"tiny": True, "seconds": 3.0, "results": results}])

    assert "| out of memory |" in found.markdown
    assert "Not measured: checks, rates: no time was left." in found.markdown
    assert [ratio.spread.median for ratio in found.ratios] == [1.0, 1.0]


def test_report_of_two_calls_prefers_a_result_to_a_later_failure() -> None:
    tokens = f"{TINY.objective_tokens[0]} tokens"
    variants = {"chunked": {"seconds": [0.1], "gib": 0.5}}
    good = {"section": "objective", "case": tokens, "tokens": 32, "variants": variants}
    bad = {"section": "objective", "case": tokens, "error": "no time was left"}
    calls = [{"tiny": True, "seconds": 1.0, "results": [one]} for one in (good, bad)]

    assert "Not measured" not in report(calls).markdown


def test_every_section_ends_within_six_minutes() -> None:
    assert sum(section.seconds for section in sections(TINY).values()) <= 360
