"""Passages are slices of their document, fit the budget, and lose no word."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_core.documents.splitting import sections, split

TEXT = st.text(alphabet="ab .!?\n。#`\t\"'", max_size=200)


def texts(text: str, limit: int, overlap: int = 0, *, markdown: bool = False) -> list[str]:
    cut = split(text, len, limit, overlap, markdown=markdown)
    return [text[start:end] for _, (start, end) in cut]


CASES = [
    # text, limit, passages
    ("One.\n\nTwo.", 20, ["One.\n\nTwo."]),
    ("One is here.\n\nTwo is here.", 14, ["One is here.", "Two is here."]),
    ("One is here. Two is here. Three.", 20, ["One is here.", "Two is here. Three."]),
    ('He said "No." Then he left.', 14, ['He said "No."', "Then he left."]),
    ("一つ。二つ。三つ。", 6, ["一つ。二つ。", "三つ。"]),
    ("alpha beta gamma", 11, ["alpha beta", "gamma"]),
    ("abcdefgh ij", 3, ["abc", "def", "gh", "ij"]),
    ("  \n\n ", 5, []),
]


@pytest.mark.parametrize(("text", "limit", "passages"), CASES)
def test_split_by_hand(text: str, limit: int, passages: list[str]) -> None:
    assert texts(text, limit) == passages


@given(TEXT, st.integers(1, 40), st.booleans())
def test_split_every_passage_fits_and_no_word_is_lost(
    text: str, limit: int, markdown: bool
) -> None:
    cut = split(text, len, limit, markdown=markdown)
    pieces = [text[start:end] for _, (start, end) in cut]
    assert all(0 < len(piece) <= limit and piece == piece.strip() for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(one[1][1] <= other[1][0] for one, other in pairwise(cut))


@given(TEXT, st.integers(4, 40))
def test_split_with_overlap_gets_on_and_loses_no_word(text: str, limit: int) -> None:
    cut = [span for _, span in split(text, len, limit, limit // 2)]
    for (start, end), (after, later) in pairwise(cut):
        assert start < after
        assert end < later
        assert end - after <= limit // 2
        assert text[end:after].strip() == ""
    assert all(end - start <= limit for start, end in cut)
    assert sum(end - start for start, end in cut) >= len("".join(text.split()))


def test_split_overlap_by_hand() -> None:
    passages = ["One is. Two is.", "Two is. Three is.", "Four is."]
    assert texts("One is. Two is. Three is. Four is.", 17, 8) == passages


def test_split_measures_in_any_unit() -> None:
    cut = split("a bb ccc dddd", lambda text: len(text.split()), 2)
    assert [span for _, span in cut] == [(0, 4), (5, 13)]


MARKDOWN = """intro

# One
text of one
## One A
```
# no heading
```
# Two
end"""


def test_sections_carry_the_path_of_their_headings() -> None:
    found = [(s.heading, MARKDOWN[s.start : s.end].strip()) for s in sections(MARKDOWN)]
    assert found == [
        ("", "intro"),
        ("One", "# One\ntext of one"),
        ("One > One A", "## One A\n```\n# no heading\n```"),
        ("Two", "# Two\nend"),
    ]


def test_split_markdown_never_reaches_over_a_heading() -> None:
    assert len(texts(MARKDOWN, 1000, markdown=True)) == 4
    assert len(texts(MARKDOWN, 1000)) == 1
