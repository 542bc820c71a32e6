"""Texts that have broken readers of texts, and how they are drawn."""

from __future__ import annotations

from hypothesis import strategies as st

# Parts of which patterns and parsers repeat themselves; a long text is many of one of them.
UNITS = (
    *("1", "1,", "1.", "1e9", "1e", ".5", "1/2 ", "1 000 ", "5 and ", "-", "- ", "+", "10^"),
    *("½", "=", "1 + ", "1+1=2 ", "x = ", "(", ")", "((", "[", "]", "{", "}", "[[1],", '{"a":'),
    *('"', "'", "`", "```\n", "*", "**a** ", "_", "#", "# a\n", "|", "<", "<b>", "</think>"),
    *("<think>", "<|end|>", "<|user|>", "\uff1c|end|\uff1e", "\ue000", "\ue001", "\u0301"),
    *("\u200b", "\ufeff", "\u202e", "\x1b[2J", "\x00", "\ud800", "\t", " ", "\n", "\n\n", "\r"),
    *("\u2028", "a", "A", "Aa ", "a1", "a1b", "AB ", "a'b", "a-", "é", "ß", "İ", "\ufb01"),
    *("\u4e2d", "\u4e07", "\u5341", "\u767e\u5206\u4e4b", "\ud55c", "ا", "\U0001f642", "not "),
    *("no ", "n't ", "but ", "the ", "May 5 ", "5 May ", "2020-01-01 ", "1.1.2020 ", "p.m. "),
    *("one ", "hundred ", "two hundred and ", "third ", "twofold ", "per cent ", "$", "$1 "),
    *("%", "5 km ", "Answer: A ", "answer is ", "\\boxed{", "yes, ", "http://a:b@c "),
    *("?token=a&", "sk-a1B", "eyJ.", "P.S. ", "* a\n", "Section 1 ", "******", "<<a>> "),
    *("[a] ", ". ", "a. ", "! ", ";", "; ", "//a:", "-xoxb-", "-eyJaaaaaaaa", "?a", "sk-", "eyJa."),
)  # fmt: skip
FILLING = "The court of Penzek decided on 5 May 2020 that 12.5% of 40 cases are not open. "


def nasty() -> st.SearchStrategy[str]:
    """Any text, and texts of repeated and mixed parts."""
    part = st.sampled_from(UNITS)
    repeated = st.builds(lambda unit, n: unit * n, part, st.integers(1, 400))
    mixed = st.lists(part | st.text(max_size=8), max_size=24).map("".join)
    digits = st.builds(lambda head, n: head + "9" * n, st.sampled_from(["1e", "1e-", "", "0."]),
                       st.integers(1, 5_000))  # fmt: skip
    nested = st.builds(lambda sign, n: sign * n, st.sampled_from("[{("), st.integers(500, 3_000))
    anything = st.text(st.characters(), max_size=200)
    return st.one_of(mixed, repeated, digits, nested, anything, st.just(FILLING))
