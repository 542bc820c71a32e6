"""Which judges had a part in what they judge: models known by their files, or else by name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from raft_core.app.settings import load_settings
from raft_core.config.base import PACKAGE_ROOT, ModelRef
from raft_core.evaluation.independence import (
    PanelMember,
    model_name,
    overlap_warnings,
    same_model,
)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("qwen3-32b", "Qwen/Qwen3-32B", True),
        ("qwen3:32b", "Qwen/Qwen3-32B", True),
        ("QWEN3_32B", "qwen3-32b", True),
        ("/models/Qwen3-32B/", "qwen3-32b", True),
        ("RedHatAI/Qwen3-32B-FP8", "Qwen/Qwen3-32B", True),
        ("Qwen/Qwen3-32B-AWQ", "qwen3-32b", True),
        ("Qwen/Qwen3-32B", "Qwen/Qwen3-8B", False),
        ("Qwen/Qwen2.5-32B", "Qwen/Qwen3-32B", False),
        ("deepseek-v3.2", "deepseek-v3", False),
        ("Qwen/Qwen3-32B-Base", "Qwen/Qwen3-32B", False),
    ],
)
def test_same_model_endpoints_and_hub_names(one: str, other: str, same: bool) -> None:
    for left, right in ((one, other), (other, one)):
        assert same_model(left, right) is same
        assert same_model(ModelRef(path=left, revision="main"), right) is same


def test_same_model_folders_by_content_whatever_they_are_called(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE_ROOT / "mini" / "base", tmp_path / "copy", copy_function=os.link)
    base, peer = ModelRef(path="mini:base"), ModelRef(path="mini:peer")
    assert same_model(base, ModelRef(path=str(tmp_path / "copy")))
    assert not same_model(base, peer)
    shutil.copytree(PACKAGE_ROOT / "mini" / "peer", tmp_path / "base", copy_function=os.link)
    assert not same_model(base, ModelRef(path=str(tmp_path / "base")))


def test_model_name_of_a_hub_cache_is_the_models() -> None:
    folder = "/x/hub/models--Qwen--Qwen3-32B/snapshots/0123abc"
    assert model_name(ModelRef(path=folder)) == "Qwen3-32B"
    assert same_model(folder, "qwen3-32b")


def test_gpu_profile_as_in_the_paper_warns_of_the_model_that_fuses(tmp_path: Path) -> None:
    members = load_settings("gpu", data=str(tmp_path / "x.jsonl")).panel_members()
    assert [(m.judge, m.model) for m in members] == [
        ("llm_1", "gpt-oss-120b"), ("llm_2", "deepseek-v3.2"), ("llm_3", "qwen3-32b"),
    ]  # fmt: skip
    assert members[2].roles == ("wrote the fused answers", "graded the fused answers")
    (warning,) = overlap_warnings(members)
    assert "llm_3 (qwen3-32b): wrote the fused answers, graded the fused answers" in warning
    assert warning.startswith("3 of the panel's 3 model judges")


@pytest.mark.parametrize(
    ("judges", "alone"),
    [
        ("[{kind: llm, generator: {kind: vllm, model: {path: mini:peer}}}]", True),
        (
            "[{kind: llm, generator: {kind: vllm, model: {path: mini:peer}}}, {kind: support}]",
            False,
        ),
        ("[{kind: llm, generator: {kind: vllm, model: {path: mini:base}}}]", False),
    ],
)
def test_model_that_fuses_is_the_only_judge_of_its_texts_is_told(judges: str, alone: bool) -> None:
    warnings = load_settings("mini", "law", [f"fuse.judges={judges}"]).panel_warnings()
    assert [w.startswith("the model that fuses (mini:peer) alone") for w in warnings] == [
        True
    ] * alone


def test_mini_profile_rule_judges_no_warning() -> None:
    members = load_settings("mini", "law").panel_members()
    assert [m.judge for m in members] == ["contains", "first_mention", "unambiguous"]
    assert load_settings("mini", "law").panel_warnings() == overlap_warnings(members) == []


@pytest.mark.parametrize(
    ("judge", "role"),
    [
        ({"kind": "vllm", "model": {"path": "mini:base"}}, "the base that was trained"),
        ({"kind": "transformers", "model": {"path": "mini:peer"}}, "wrote the fused answers"),
        ({"kind": "vllm", "model": {"path": "org/another"}}, None),
    ],
)
def test_panel_mixed_judge_that_is_base_or_fuses_is_told(
    judge: dict[str, Any], role: str | None
) -> None:
    kind, path = judge["kind"], judge["model"]["path"]
    panel = (
        f"[{{kind: exact}}, {{kind: llm, generator: {{kind: {kind}, model: {{path: {path}}}}}}}]"
    )
    members = load_settings("mini", "law", [f"evaluate.panel={panel}"]).panel_members()
    assert members[0] == PanelMember(judge="exact")
    assert members[1].roles == ((role,) if role else ())
    assert len(overlap_warnings(members)) == (role is not None)
