"""Passwords in addresses never show."""

from __future__ import annotations

import pytest

from tasks.tracking.masking import masked, without_userinfo


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://ann:secret@host:5000/x", "http://***@host:5000/x"),
        ("https://token@host", "https://***@host"),
        ("postgresql+psycopg2://ann:s/e?c#r@host/db", "postgresql+psycopg2://***@host/db"),
        ("API request to http://ann:secret@host failed", "API request to http://***@host failed"),
        (
            "{'a': 'http://u:v@h', 'b': 'http://w:x@h'}",
            "{'a': 'http://***@h', 'b': 'http://***@h'}",
        ),
    ],
)
def test_masked_userinfo_is_replaced(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "http://host:5000/#/experiments/1",
        "sqlite:////home/ann/mlflow.db",
        "hf://org/model@main",
        "https://host/users/@ann",
        "write to ann@host",
    ],
)
def test_masked_text_without_userinfo_stays(text: str) -> None:
    assert masked(text) == text


def test_link_leaves_the_userinfo_out() -> None:
    assert without_userinfo("https://ann:secret@host/path") == "https://host/path"
