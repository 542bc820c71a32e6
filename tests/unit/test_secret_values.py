"""What counts as a credential in settings, and what must not."""

from __future__ import annotations

from typing import Any

import pytest

from raft_core.errors import InputError
from raft_core.secret_values import has_secret, is_secret_name, masked, secret_in
from raft_core.settings import load_settings

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
