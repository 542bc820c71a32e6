"""What a message shows of a text that is not ours."""

from __future__ import annotations

import pytest

from raft_core.config.secrets import masked
from raft_core.errors import InputError, printable

HOSTILE = {
    "\x1b[2J\x1b]0;title\x07": "\\x1b[2J\\x1b]0;title\\x07",
    "\x9b31m": "\\x9b31m",
    "all well\rerror": "all well\\rerror",
    "\u202egnp.exe": "\\u202egnp.exe",
    "a\u2028b": "a\\u2028b",
    "\x00\x7f": "\\x00\\x7f",
}


@pytest.mark.parametrize("text", HOSTILE)
def test_error_of_a_hostile_text_is_shown_and_not_obeyed(text: str) -> None:
    assert str(InputError(f"row '{text}'")) == f"row '{HOSTILE[text]}'"
    assert masked(text) == HOSTILE[text]


@pytest.mark.parametrize("text", ["zwei\nZeilen\tund mehr", "日本語", "é — 🙂", "ראש"])
def test_printable_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text
