"""An engine of `kind: auto` is decided as settings are read, and the key holds the decision."""

from __future__ import annotations

import pytest

from raft_core.app.model_checks import check_models
from raft_core.app.settings import Settings, load_settings
from raft_core.config import runtime
from raft_core.config.base import fingerprint, is_installed
from raft_core.engines import base
from raft_core.engines.base import TransformersConfig, VllmConfig
from raft_core.errors import InputError
from raft_core.execution.shards import WHOLE

VLLM = [
    f"{name}={{kind: vllm, model: {{path: mini:{model}}}, dtype: float32, max_model_len: 384}}"
    for name, model in (("engine", "base"), ("fusion_engine", "peer"))
]


@pytest.fixture
def without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (base, runtime):
        monkeypatch.setattr(module, "is_installed", lambda name: name != "vllm")
    monkeypatch.setattr("raft_core.app.model_checks.is_installed", lambda name: name != "vllm")


@pytest.fixture
def with_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (base, runtime):
        monkeypatch.setattr(module, "is_installed", lambda _: True)


def rewriting(settings: Settings) -> object:
    return fingerprint(settings.rewrite_stage(WHOLE))


def test_auto_where_vllm_is_installed_is_vllm(with_vllm: None) -> None:
    settings = load_settings("mini", "law")
    assert isinstance(settings.engine, VllmConfig)
    assert isinstance(settings.fusion_engine, VllmConfig)
    assert settings.engine.max_model_len == 384
    assert "vllm.entrypoints.llm" in settings.runtime.preload
    assert rewriting(settings) == rewriting(load_settings("mini", "law", VLLM))


def test_auto_where_vllm_is_missing_is_transformers_of_another_key(without_vllm: None) -> None:
    settings = load_settings("mini", "law")
    assert isinstance(settings.engine, TransformersConfig)
    assert isinstance(settings.fusion_engine, TransformersConfig)
    assert settings.engine.dtype == "float32"
    assert not [name for name in settings.runtime.preload if name.startswith("vllm")]
    assert rewriting(settings) != rewriting(load_settings("mini", "law", VLLM))


def test_vllm_asked_for_where_it_is_missing_is_one_error(without_vllm: None) -> None:
    with pytest.raises(InputError, match="vllm is not installed; install it, or give 'kind: auto'"):
        check_models(load_settings("mini", "law", VLLM))


def test_auto_with_a_field_that_is_none_is_one_error() -> None:
    with pytest.raises(InputError, match=r"field 'fusion_engine.*modle': no such field"):
        load_settings("mini", "law", ["fusion_engine={kind: auto, modle: x}"])


@pytest.mark.parametrize("name", ["no_such_package", "", "1.2"])
def test_package_that_is_none_is_not_installed(name: str) -> None:
    assert not is_installed(name)
