"""MLflow read back through its own client: runs, curves, tables, plots, inputs, the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from mlflow import MlflowClient

from tests.integration.flow import Flow

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def client(first: Flow) -> MlflowClient:
    return MlflowClient(f"sqlite:///{first.home / 'mlflow.db'}")


@pytest.fixture(scope="module")
def runs(client: MlflowClient) -> dict[str, Any]:
    """The first flow run's runs by name; the parent's name is 'parent'."""
    experiment = client.get_experiment_by_name("raft")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])
    parent = next(r for r in found if "mlflow.parentRunId" not in r.data.tags)
    children = [r for r in found if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    return {"parent": parent} | {run.info.run_name: run for run in children}


def artifact(client: MlflowClient, run: Any, name: str, folder: Path) -> Path:
    return Path(client.download_artifacts(run.info.run_id, name, str(folder)))


def table(client: MlflowClient, run: Any, name: str, folder: Path) -> list[dict[str, Any]]:
    content = json.loads(artifact(client, run, name, folder).read_text())
    return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def test_parent_run_has_settings_scores_and_a_child_per_stage(runs: dict[str, Any]) -> None:
    parent = runs["parent"]
    assert parent.info.status == "FINISHED"
    assert parent.data.params["filter.tau"] == "0.8"
    assert parent.data.tags["raft.domain"] == "law"
    assert "| RAFT |" in parent.data.tags["mlflow.note.content"]
    assert {"base.domain", "raft.domain", "raft.retention"} <= set(parent.data.metrics)
    assert {
        "prepare",
        "rewrite",
        "filter",
        "fuse",
        "lineage",
        "distill raft",
        "evaluate raft",
        "report",
    } <= set(runs)
    assert {run.info.status for run in runs.values()} == {"FINISHED"}


def test_parent_run_has_the_plots_and_the_report(
    client: MlflowClient, runs: dict[str, Any]
) -> None:
    paths = {file.path for file in client.list_artifacts(runs["parent"].info.run_id)}
    assert paths >= {
        "domain_versus_retention.png", "similarity.png", "curves.png", "report.md", "report.json",
        "differences.png", "weight_distance.png",
    }  # fmt: skip


@pytest.mark.parametrize(
    "metric",
    [
        "loss_sft", "loss_kl", "lambda", "ratio_sft_kl", "teacher_mass_in_k",
        "student_mass_in_k", "rollout_tokens", "truncated_share",
    ],
)  # fmt: skip
def test_training_run_has_the_curve(
    client: MlflowClient, runs: dict[str, Any], metric: str
) -> None:
    history = client.get_metric_history(runs["distill raft"].info.run_id, metric)
    steps = [point.step for point in history]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) > 1


def test_training_run_has_its_parameters_and_a_checkpoint_that_loads(
    client: MlflowClient, runs: dict[str, Any], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    run = runs["distill raft"]
    assert run.data.params["distill.top_k"] == "512"
    model = client.get_logged_model(run.data.tags["raft.model_id"])
    assert model.status == "READY"
    folder = Path(model.artifact_location.removeprefix("file://"))
    assert AutoModelForCausalLM.from_pretrained(folder).num_parameters() > 900_000


def test_runs_that_generate_have_the_counts_of_their_requests(runs: dict[str, Any]) -> None:
    for name in ("rewrite", "fuse", "respond base", "respond raft"):
        metrics = runs[name].data.metrics
        assert metrics["generation.requests"] > 0
        assert (
            metrics["generation.cached"] + metrics["generation.generated"]
            == metrics["generation.requests"]
        )
    rewrite = runs["rewrite"].data.metrics
    assert rewrite["generation.generated"] == rewrite["rows.in"]


def test_filter_run_has_every_rewrite_with_its_cosine(
    client: MlflowClient, runs: dict[str, Any], tmp_path: Path
) -> None:
    rows = table(client, runs["filter"], "rewrites.json", tmp_path)
    assert {"id", "text", "similarity", "passed", "reason"} <= set(rows[0])
    metrics = runs["filter"].data.metrics
    assert metrics["rows.in"] == len(rows)


def test_fuse_run_has_the_lineage_with_every_vote(
    client: MlflowClient, runs: dict[str, Any], tmp_path: Path
) -> None:
    rows = table(client, runs["fuse"], "lineage.json", tmp_path)
    row = next(row for row in rows if row["source"] == "fused")
    assert row["question"]
    assert row["reference"]
    assert row["rewrite"]
    assert row["target"]
    assert 0.8 <= row["cosine"] <= 1.001
    assert set(json.loads(row["votes"])[0]) == {
        "coverage_1", "support_2", "embedding_3",
    }  # fmt: skip


def test_lineage_run_has_the_table_and_the_page(
    client: MlflowClient, runs: dict[str, Any], tmp_path: Path
) -> None:
    rows = parquet.read_table(artifact(client, runs["lineage"], "lineage.parquet", tmp_path))
    assert rows.num_rows == runs["lineage"].data.metrics["rows.in"] == 150
    page = artifact(client, runs["lineage"], "lineage.html", tmp_path).read_text()
    assert page.startswith("<!doctype html>")
    assert Path(runs["parent"].data.tags["raft.lineage"]).read_text() == page


def test_evaluate_run_has_scores_with_intervals_and_every_vote(
    client: MlflowClient, runs: dict[str, Any], tmp_path: Path
) -> None:
    metrics = runs["evaluate base"].data.metrics
    assert metrics["domain.low"] <= metrics["domain.accuracy"] <= metrics["domain.high"]
    rows = table(client, runs["evaluate base"], "verdicts.json", tmp_path)
    votes = json.loads(next(row for row in rows if row["benchmark"] == "domain")["votes"])
    assert set(votes) == {"contains", "first_mention", "unambiguous"}


def test_prepare_run_has_the_splits_as_inputs_with_digests(runs: dict[str, Any]) -> None:
    inputs = runs["prepare"].inputs.dataset_inputs
    assert {i.dataset.name for i in inputs} == {"law-train", "law-validation", "law-test"}
    assert all(i.dataset.digest for i in inputs)
