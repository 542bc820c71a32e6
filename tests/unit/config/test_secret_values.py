"""What counts as a credential in settings, and what must not."""

from __future__ import annotations

from typing import Any

import pytest

from raft_core.app.settings import load_settings
from raft_core.config.runtime import RuntimeConfig
from raft_core.config.secrets import has_secret, is_secret_name, masked, secret_in
from raft_core.errors import InputError

SECRET = (
    "api_key apiKey x-api-key api_keys key token access_token accessToken hf_token password "
    "Authorization client_secret sig subscription-key secret_key auth session_token "
    "github_token X-Judge-Token OPENAI_KEY judge_key X-Amz-Security-Token"
).split()
HARMLESS = (
    "tokens max_tokens token_ids stop_token_ids return_token_ids prompt_cache_key sort_key "
    "stop_keys eos_token skip_special_tokens tool_call_start_token guided_json model tokenizer"
).split()


@pytest.mark.parametrize("name", SECRET)
def test_name_of_a_credential_is_one(name: str) -> None:
    assert is_secret_name(name)
    assert secret_in({"outer": [{name: "hunter2"}]}) == f"outer.0.{name}"


@pytest.mark.parametrize("name", HARMLESS)
def test_name_of_something_else_is_none(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        ("Bearer abcdef0123", True),
        ("sk-proj-0123456789abcdEFGH", True),
        ("see sk-proj-0123456789abcdEFGH", True),
        ("sk-learn-models-large-v2", False),
        ("basic reasoning", False),
        ("sk-SK", False),
        ("Basic facts", False),
        ("basic", False),
    ],
)
def test_value_that_is_a_credential_by_its_form(value: str, secret: bool) -> None:
    assert (secret_in({"stop": [value]}) is not None) == secret


def test_schema_that_speaks_of_passwords_holds_none() -> None:
    schema: dict[str, Any] = {"properties": {"password": {"type": "string"}}, "required": ["name"]}
    assert secret_in({"guided_json": schema}) is None


URLS = {
    "s3://bucket/a@b": False,
    "gs://bucket/prefix?project=x": False,
    "http://host:8080/a@b": False,
    "sqlite:////home/me/mlflow.db": False,
    "databricks": False,
    "ray://head:10001": False,
    "org/model@main": False,
    "http://u:hunter2@host/x": True,
    "http://u:hunter2/x@host/x": True,
    "postgresql://u:hunter2?x@host/x": True,
    "https://host:8000?mail=a@b": False,
    "https://host?mail=a@b": False,
    "http://token@host/x": True,
    "s3://b/x?secret_key=hunter2": True,
    "https://h/x#access_token=hunter2": True,
    "https://h/x?a=1&X-Amz-Signature=hunter2": True,
}


@pytest.mark.parametrize("url", URLS)
def test_address_with_a_credential(url: str) -> None:
    assert has_secret(url) == URLS[url]
    assert "hunter2" not in masked(f"cannot reach '{url}'")


@pytest.mark.parametrize(
    "field", ["engine.model.path", "domain.data.path", "domain.description", "runtime.store"]
)
def test_address_with_a_password_is_refused_in_every_setting(field: str) -> None:
    with pytest.raises(InputError, match=rf"setting {field}: field '{field}': holds a user") as no:
        load_settings("mini", "law", [f"{field}=https://me:hunter2@host/x"])
    assert "hunter2" not in str(no.value)


TOKENS = {
    "hf_QxsecretTokenOfTheHubAbcdefghijklm": True,
    "ghp_0123456789abcdefghijABCDEFGHIJ012345": True,
    "github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz": True,
    "glpat-abcdefghij0123456789": True,
    "AKIAIOSFODNN7EXAMPLE": True,
    "AKIAIOSFODNNXEXAMPLE": True,
    "sk-0123456789abcdef0123456789abcdef": True,
    "gsk_0123456789ABCDEFabcdef012345": True,
    "sk_live_0123456789abcdef": True,
    "ASIAIOSFODNN7EXAMPLE": True,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlLW9mLWl0": True,
    "xoxb-123456789012-abcdef": True,
    "AIzaSyA0123456789abcdefghijklmnopqrstuv": True,
    "Bearer abcdef0123456789abcdef and more": True,
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA0Z3VS5\n": True,
    "hf_internal_testing": False,
    "hf_transformersmodels": False,
    "HuggingFaceTB/SmolLM3-3B": False,
    "4972d797e461912dd00f638d4972d797e461912dd00f638d": False,
    "AKIA is a prefix": False,
    "ASIANDEVELOPMENTBANK": False,
    "eyJ is how they begin": False,
    "bearer of the news of twelve thousand": False,
    "the ghp_ and gho_ prefixes": False,
}


@pytest.mark.parametrize("text", TOKENS)
def test_key_is_known_by_the_form_that_its_issuer_gives_it(text: str) -> None:
    assert (secret_in({"stop": [f"see {text}"]}) is not None) == TOKENS[text]
    shown = masked(f"refused: {text}, try again")
    assert ("***" in shown) == TOKENS[text]
    assert (text in shown) != TOKENS[text]


@pytest.mark.parametrize(
    "url",
    [
        "https://h/x?token=hunter2",
        "https://h/x;jsessionid=1;token=hunter2",
        "https://h/x#sig=hunter2",
        "https://h/x?a=1&acc%65ss_token=hunter2",
    ],
)
def test_address_with_a_key_stays_on_this_machine(url: str) -> None:
    runtime = RuntimeConfig.model_construct(mlflow_uri=url, store="s3://b/p")
    assert runtime.addresses() == {"store": "s3://b/p"}
    assert "hunter2" not in masked(url)
