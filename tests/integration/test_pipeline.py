"""The whole flow as a user starts it, in small: what it prints and what it caches."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest

from raft_core.app.settings import load_settings
from raft_core.refine.prepare import load_examples
from tests.integration.flow import ROOT, Flow, ended_flow, run_flow, start_flow

PUBMEDQA = ROOT.parent / "shared" / "data" / "pubmedqa" / "train.jsonl"
CACHED = "Cached"
pytestmark = pytest.mark.timeout(900)


def again(first: Flow, *arguments: str) -> Flow:
    flow = run_flow(first.home.parent, "--limit", "150", *arguments)
    assert flow.code == 0, flow.output
    return flow


def report_of(flow: Flow) -> dict[str, Any]:
    found = re.search(r"^report +(\S+)$", flow.output, re.MULTILINE)
    assert found
    return json.loads(Path(found[1]).with_suffix(".json").read_text())


def report_key(flow: Flow) -> str:
    found = re.search(r"^report +(\S+)$", flow.output, re.MULTILINE)
    assert found
    return Path(found[1]).parent.name


def test_flow_runs_every_stage_and_prints_the_table(first: Flow) -> None:
    assert set(first.stages) == {
        "prepare", "rewrite", "filter", "fuse", "lineage", "report",
        "respond base", "evaluate base",
        "distill sft_raw", "respond sft_raw", "evaluate sft_raw",
        "distill raft", "respond raft", "evaluate raft",
    }  # fmt: skip
    assert CACHED not in first.stages.values()
    for label in ("base", "SFT raw", "RAFT"):
        assert re.search(rf"^\| {label} \|.*\[\d\.\d\d, \d\.\d\d\]", first.output, re.MULTILINE)
    assert re.search(r"^MLflow run +[0-9a-f]{32} in sqlite:", first.output, re.MULTILINE)
    checkpoint = re.search(r"^checkpoint raft +(\S+)$", first.output, re.MULTILINE)
    assert checkpoint
    assert (Path(checkpoint[1]) / "model.safetensors").is_file()


def test_flow_loses_no_row(first: Flow) -> None:
    stages = report_of(first)["refinement"]["stages"]
    assert stages["prepare"]["in"] == 150
    for counts in stages.values():
        assert counts["in"] == counts["kept"] + sum(counts["rejected"].values())


def test_flow_lineage_tells_of_every_row_what_the_stages_counted(first: Flow) -> None:
    page = re.search(r"^every row +(\S+)$", first.output, re.MULTILINE)
    assert page
    rows = parquet.read_table(Path(page[1]).with_suffix(".parquet")).to_pylist()
    settings = load_settings("mini", "law", limit=150)
    ids = [example.id for example in load_examples(settings.domain, settings.prepare)]
    assert sorted(row["id"] for row in rows) == sorted(ids)
    for stage, verdict in {"prepare": "kept", "filter": "passed", "fuse": "kept"}.items():
        told = [row[stage] for row in rows if row[stage] is not None]
        reasons = Counter(said["reason"] for said in told if not said[verdict])
        counts = {"in": len(told), "kept": len(told) - reasons.total(), "rejected": reasons}
        assert counts == report_of(first)["refinement"]["stages"][stage]
    sources = Counter(row["target_source"] for row in rows if row["target"])
    assert sources == report_of(first)["refinement"]["targets"]
    assert all(any(c["chosen"] for c in r["candidates"]) for r in rows if r["status"] == "fused")


def test_flow_store_holds_no_pickle(first: Flow) -> None:
    suffixes = {p.suffix for p in (first.home / "store" / "artifacts").rglob("*") if p.is_file()}
    assert suffixes <= {
        ".json",
        ".jsonl",
        ".safetensors",
        ".jinja",
        ".png",
        ".md",
        ".parquet",
        ".html",
    }


def test_flow_again_with_another_runtime_every_stage_cached(first: Flow) -> None:
    flow = again(
        first, "--set", "runtime.threads_per_stage=2", "--set", "runtime.parallel_stages=1"
    )
    assert set(flow.stages) == set(first.stages)
    assert set(flow.stages.values()) == {CACHED}
    assert report_of(flow) == report_of(first)


def test_flow_other_tau_runs_again_from_the_filter_on(first: Flow) -> None:
    flow = again(first, "--set", "filter.tau=1.0")
    done = {name for name, outcome in flow.stages.items() if outcome != CACHED}
    assert done == {
        "filter", "fuse", "lineage", "distill raft", "respond raft", "evaluate raft", "report",
    }  # fmt: skip
    reports = [f"report/{report_key(each)}" for each in (first, flow)]
    explained = subprocess.run(
        [sys.executable, "-m", "flows.cli", "artifacts", "explain", *reports],
        cwd=ROOT, env=os.environ | {"RAFT_HOME": str(first.home)}, capture_output=True, text=True,
    )  # fmt: skip
    assert (explained.stdout, explained.stderr) == ("filter.tau: 0.8 -> 1.0\n", "")


def test_two_flows_at_once_compute_every_stage_once(first: Flow) -> None:
    home = first.home.parent
    running = [start_flow(home, "--limit", "140") for _ in range(2)]
    one, other = (ended_flow(home, process) for process in running)
    assert (one.code, other.code) == (0, 0), one.output + other.output
    assert set(one.stages) == set(other.stages) == set(first.stages)
    for stage in first.stages:
        cached = [flow.stages[stage] == CACHED for flow in (one, other)]
        assert sum(cached) == 1, stage


def test_flow_altered_artifact_is_made_again_and_nothing_else(first: Flow) -> None:
    (fused,) = {
        path
        for path in (first.home / "store" / "artifacts" / "fuse").glob("*/fused.jsonl")
        if path.parent.name in first_keys(first)
    }
    before = fused.read_text()
    fused.write_text(before[:-20])
    flow = again(first)
    assert {name for name, outcome in flow.stages.items() if outcome != CACHED} == {"fuse"}
    assert fused.read_text() == before


def first_keys(flow: Flow) -> set[str]:
    """The keys of the artifacts that the flow's report was made from."""
    found = re.search(r"^report +(\S+)$", flow.output, re.MULTILINE)
    assert found
    record = json.loads((Path(found[1]).parent / "record.json").read_text())
    return set(record["inputs"].values())


def test_flow_base_that_cannot_read_stops_at_the_gate(first: Flow, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    base = ROOT / "raft_core" / "mini" / "base"
    config = LlamaConfig.from_pretrained(base)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "random")
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "random")
    flow = run_flow(
        first.home.parent, "--limit", "150", "--set", f"engine.model.path={tmp_path / 'random'}"
    )
    assert flow.code == 3
    assert re.search(r"^error: gate: model .* answers 0\.\d+ of 'reading'", flow.output, re.M)
    assert "Traceback" not in flow.output
    assert not any(name.startswith("distill") for name in flow.stages)


@pytest.mark.skipif(not PUBMEDQA.is_file(), reason=f"needs the real data of {PUBMEDQA.name}")
def test_flow_questions_beyond_the_model_keep_their_reference_answers(tmp_path: Path) -> None:
    flow = run_flow(tmp_path, "--data", str(PUBMEDQA), "--limit", "64", domain=None)
    assert flow.code == 0, flow.output
    refinement = report_of(flow)["refinement"]
    rejected = sum(refinement["stages"]["filter"]["rejected"].values())
    rows = refinement["stages"]["filter"]["in"]
    assert rejected > rows / 2
    assert refinement["targets"]["reference"] >= rejected
    assert sum(refinement["targets"].values()) == rows
    assert re.search(r"^filter +\d+ rows in, \d+ kept \(\d+ \w+", flow.output, re.MULTILINE)


def test_flow_leaves_nothing_in_its_home_that_others_may_read(first: Flow) -> None:
    found = [first.home, *first.home.rglob("*")]
    assert {path.name for path in found} >= {"mlflow.db", "record.json", "generations.sqlite"}
    open_to_others = {path for path in found if path.lstat().st_mode & 0o077}
    assert {path for path in open_to_others if not path.is_symlink()} == set()
