"""Settings and model folders: refused with one error before any weights are loaded."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raft_core.config import PACKAGE_ROOT
from raft_core.engines.chat import load_tokenizer, stop_token_ids
from raft_core.errors import InputError
from raft_core.settings import CONF, checked, load_settings

BASE = PACKAGE_ROOT / "mini" / "base"

SETTINGS: dict[str, tuple[list[str], str]] = {
    "share above one": (["filter.tau=1.5"], r"'filter\.tau'.*less than"),
    "not a number": (["filter.tau=.nan"], r"'filter\.tau'.*finite"),
    "infinite": (["distill.temperature=.inf"], r"'distill\.temperature'.*finite"),
    "text for a number": (["distill.epochs=three"], r"'distill\.epochs'.*number.*'three'"),
    "number for text": (["domain.name=3"], r"'domain\.name'.*string"),
    "negative rate": (["methods.raft.learning_rate=-1"], r"learning_rate'.*greater than 0"),
    "field that is not there": (["filter.tua=0.5"], r"'filter\.tua': no such field"),
    "section that is not there": (["fliter.tau=0.5"], r"'fliter': no such field"),
    "no value": (["filter.tau"], r"write it as section\.field=value"),
    "value that is not YAML": (["filter.tau=[1"], r"not YAML"),
    "Python object in YAML": (["filter.tau=!!python/object/apply:os.getcwd []"], r"not YAML"),
    "path in a domain's name": (["domain.name=../../x"], r"'domain\.name'.*pattern"),
    "path in a prompt's name": (
        ["rewrite.prompt=../../../../../../../../etc/passwd"], r"rewrite\.prompt",
    ),
    "rollouts without end": (["distill.rollout.max_tokens=10000000"], r"max_tokens'.*less than"),
    "no rows at all": (["domain.limit=0"], r"'domain\.limit'.*greater than 0"),
    "judges that are none": (["evaluate.panel=[]"], r"evaluate\.panel"),
    "method of no such targets": (["methods.raft.targets=magic"], r"methods\.raft\.targets"),
    "batch that does not divide": (
        ["distill.batch_size=10", "distill.gradient_accumulation=4"], r"no multiple",
    ),
    "engine of no such kind": (["engine.kind=magic"], r"'engine'.*magic"),
    "endpoint that is not named": (
        ["fusion_engine={kind: openai, endpoint: far, model: m}"], r"no 'far'",
    ),
    "password in an endpoint's address": (
        ["runtime.endpoints={far: {base_url: 'http://me:hunter2@far/v1'}}"], r"holds a user",
    ),
    "key in an endpoint's address": (
        ["runtime.endpoints={far: {base_url: 'http://far/v1?api_key=hunter2'}}"], r"user, password",
    ),
    "key in what goes to an endpoint": (
        ["fusion_engine={kind: openai, endpoint: e, model: m, extra_body: {api_key: hunter2}}"],
        r"holds 'api_key'",
    ),
    "password in the store's address": (["runtime.store=ftp://u:hunter2@h/x"], r"user, password"),
    "password in MLflow's address": (
        ["runtime.mlflow_uri=postgresql://u:hunter2@h/x"], r"user, password",
    ),
    "password in Ray's address": (["runtime.ray_address=ray://u:hunter2@h"], r"user, password"),
    "budget of nothing": (
        ["runtime.endpoints={far: {base_url: 'http://far/v1', budget: {requests: 0}}}"],
        r"budget\.requests'.*greater than 0",
    ),
    "budget that is no number": (
        ["runtime.endpoints={far: {base_url: 'http://far/v1', budget: {tokens: many}}}"],
        r"budget\.tokens'.*integer.*'many'",
    ),
    "budget without end": (
        ["runtime.endpoints={far: {base_url: 'http://far/v1', budget: {seconds: .inf}}}"],
        r"budget\.seconds'.*finite",
    ),
    "budget in a unit that is not counted": (
        ["runtime.endpoints={far: {base_url: 'http://far/v1', budget: {dollars: 5}}}"],
        r"budget\.dollars': no such field",
    ),
    "structured output of no such kind": (
        ["fusion_engine={kind: openai, endpoint: far, model: m, structured: xml}"],
        r"structured'.*'vllm', 'json_schema' or 'none'",
    ),
    "field that another one has replaced": (
        ["fusion_engine={kind: openai, endpoint: far, model: m, vllm_extensions: false}"],
        r"vllm_extensions': no such field",
    ),
    "rule that the guard lacks": (["guard.nmaes=false"], r"'guard\.nmaes': no such field"),
    "guard that is a word": (["guard=strict"], r"'guard'"),
    "guard whose threshold is no probability": (
        ["guard.nli={model: {path: x}, threshold: 1.5}"], r"guard\.nli\.threshold'.*less than",
    ),
    "guard whose model is not there": (
        ["guard.nli={model: {path: ./no/such/model}}"], r"no/such/model.*no config\.json",
    ),
    "guard whose model does not judge contradictions": (
        ["guard.nli={model: {path: 'mini:base'}}"], r"guard\.nli.*no label 'contradiction'",
    ),
    "warning beyond a share": (["runtime.training.health.repeated={warn: 3}"], r"repeated"),
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_setting_is_refused_with_one_error(name: str) -> None:
    overrides, message = SETTINGS[name]
    with pytest.raises(InputError, match=message) as refused:
        checked(load_settings("mini", "law", overrides))
    assert len(str(refused.value)) < 600


PROFILES: dict[str, tuple[bytes, str]] = {
    "broken YAML": (b"a: [1", r"not readable as YAML"),
    "a list": (b"- 1\n- 2\n", r"must hold fields and values"),
    "empty": (b"", r"must hold fields and values"),
    "binary": (b"\xff\xfe\x00", r"not readable as YAML"),
    "a Python object": (b"a: !!python/object/apply:os.getcwd []", r"not readable as YAML"),
    "a name that YAML expands without end": (
        b"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
        b"c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n",
        r"no such field",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PROFILES)
def test_profile_is_refused_with_an_error_that_names_it(name: str, tmp_path: Path) -> None:
    content, message = PROFILES[name]
    (tmp_path / "own.yaml").write_bytes(content)
    with pytest.raises(InputError, match=message) as refused:
        load_settings(str(tmp_path / "own.yaml"), "law")
    assert "own.yaml" in str(refused.value)


@pytest.mark.parametrize("name", ["no", "/etc/passwd", "a\0b"])
def test_profile_name_that_leads_nowhere_is_one_error(name: str) -> None:
    with pytest.raises(InputError):
        load_settings(name, "law")
    assert CONF.is_dir()


def edited(file: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        change(content)
        (folder / file).write_text(json.dumps(content))

    return edit


def torn(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def no_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 10) + b"not JSON!!" + b"\0" * 50)


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def missing(file: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).unlink()


MODELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda folder: shutil.rmtree(folder), r"no config\.json"),
    "no configuration": (missing("config.json"), r"no config\.json"),
    "configuration that is no JSON": (
        lambda folder: (folder / "config.json").write_text("{"), r"cannot be read as JSON",
    ),
    "no chat template": (missing("chat_template.jinja"), r"has no chat template"),
    "no tokenizer": (missing("tokenizer.json"), r"has no tokenizer\.json"),
    "tokenizer of another model": (
        edited("config.json", lambda c: c.update(vocab_size=900)),
        r"knows token 1199, its weights only 900",
    ),
    "token that was added beyond the embeddings": (
        edited("tokenizer.json", lambda t: t["added_tokens"].append({"id": 5000, "content": "x"})),
        r"knows token 5000",
    ),
    "torn weights": (torn, r"lacks 1,000 bytes"),
    "weights that are none": (no_header, r"no safetensors file"),
    "weights as a pickle": (pickled, r"no \*\.safetensors weights"),
    "code of its own": (
        edited("config.json", lambda c: c.update(auto_map={"AutoModel": "evil.Model"})),
        r"code of its own",
    ),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(BASE, tmp_path / "model")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("place", ["engine", "fusion_engine"])
def test_model_is_refused_before_any_weights_are_loaded(
    name: str, place: str, folder: Path
) -> None:
    damage, message = MODELS[name]
    damage(folder)
    settings = load_settings("mini", "law", [f"{place}.model.path={folder}"])
    with pytest.raises(InputError, match=message) as refused:
        checked(settings)
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_model_without_a_pad_token_pads_with_its_end(folder: Path) -> None:
    for file in ("tokenizer_config.json", "config.json"):
        edited(file, lambda c: [c.pop(name, None) for name in ("pad_token", "pad_token_id")])(
            folder
        )
    settings = checked(load_settings("mini", "law", [f"engine.model.path={folder}"]))
    tokenizer = load_tokenizer(settings.base)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id


def test_model_with_several_stop_ids_stops_at_each(folder: Path) -> None:
    from transformers import GenerationConfig

    edited("generation_config.json", lambda c: c.update(eos_token_id=[3, 7, 9]))(folder)
    settings = checked(load_settings("mini", "law", [f"engine.model.path={folder}"]))
    config = GenerationConfig.from_pretrained(folder)
    assert stop_token_ids(load_tokenizer(settings.base), config) == [3, 7, 9]
