"""What the pipeline's tasks say of a run."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from raft_core.app.settings import load_settings
from tasks.pipeline import warn_judge_overlap


@pytest.mark.parametrize(("profile", "count"), [("gpu", 1), ("mini", 0)])
def test_run_begins_with_what_the_panel_had_a_part_in(profile: str, count: int) -> None:
    told: list[str] = []
    settings = load_settings(profile, "law")
    warn_judge_overlap(SimpleNamespace(tell=lambda _, text: told.append(text)), settings)
    assert len(told) == count
    assert all("llm_3 (qwen3-32b): wrote the fused answers" in line for line in told)
