"""Cutting a text into passages: at headings always, then at paragraphs, sentences, words.

A passage is a slice of its document, so that its offsets prove where it stands. Passages never
reach over a heading. Paragraphs are packed together as long as they fit; one that does not fit is
packed by its sentences, a sentence by its words, and a word by its characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

HEADING = re.compile(r"(#{1,6})[ \t]+(.+?)[ \t#]*")
FENCE = re.compile(r"[ \t]*(```|~~~)")
PARAGRAPH_END = re.compile(r"\n[ \t]*\n\s*")
# After a full stop and the like, closing quotes and brackets included; CJK needs no blank.
SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])\s*|\n")  # noqa: RUF001
WORD_END = re.compile(r"\s+")

Span = tuple[int, int]
Measure = Callable[[str], int]
CUTS = (PARAGRAPH_END, SENTENCE_END, WORD_END)


@dataclass(frozen=True, slots=True)
class Section:
    """A slice of a document below one path of headings, the last heading included."""

    heading: str
    start: int
    end: int


def split(
    text: str, measure: Measure, limit: int, overlap: int = 0, *, markdown: bool = False
) -> list[tuple[str, Span]]:
    """(path of headings, slice) of each passage, in order.

    No slice measures more than `limit`, but for a single character that does. With an `overlap`
    a passage starts with the last parts of the one before, as many as measure no more than that.
    """
    passages = []
    for section in sections(text) if markdown else [Section("", 0, len(text))]:
        spans = parts(text, (section.start, section.end), measure, limit)
        passages += [
            (section.heading, span) for span in packed(text, spans, measure, limit, overlap)
        ]
    return passages


def sections(text: str) -> Iterator[Section]:
    """The text between headings; a `#` inside a code fence is none."""
    path: list[tuple[int, str]] = []
    start = position = 0
    fence = ""
    for line in text.splitlines(keepends=True):
        marker = FENCE.match(line)
        heading = HEADING.fullmatch(line.rstrip("\n")) if not fence else None
        if marker and fence in ("", marker[1]):
            fence = "" if fence else marker[1]
        if heading:
            yield Section(_path(path), start, position)
            start, depth = position, len(heading[1])
            path = [(d, name) for d, name in path if d < depth] + [(depth, heading[2])]
        position += len(line)
    yield Section(_path(path), start, len(text))


def _path(path: list[tuple[int, str]]) -> str:
    return " > ".join(name for _, name in path)


def parts(text: str, span: Span, measure: Measure, limit: int, level: int = 0) -> list[Span]:
    """The largest parts of a slice that fit: paragraphs, else sentences, words, characters."""
    if level == len(CUTS):
        return list(_characters(text, span, measure, limit))
    found: list[Span] = []
    for start, end in _cut(text, span, CUTS[level]):
        if measure(text[start:end]) <= limit:
            found.append((start, end))
        else:
            found += parts(text, (start, end), measure, limit, level + 1)
    return found


def _cut(text: str, span: Span, ends: re.Pattern[str]) -> Iterator[Span]:
    """The slices between the cuts, without blanks around them; empty ones are left out."""
    start, end = span
    for cut in [*ends.finditer(text, start, end), None]:
        stop = end if cut is None else _closed(cut)
        piece = text[start:stop]
        if piece.strip():
            left = start + len(piece) - len(piece.lstrip())
            yield left, start + len(piece.rstrip())
        start = stop


def _closed(cut: re.Match[str]) -> int:
    """Closing quotes and brackets stay with what they close."""
    return cut.start() + len(cut[0].rstrip())


def _characters(text: str, span: Span, measure: Measure, limit: int) -> Iterator[Span]:
    """The longest slices that fit, by bisection."""
    start, end = span
    while start < end:
        fits, too_far = start + 1, end + 1
        while too_far - fits > 1:
            middle = (fits + too_far) // 2
            if measure(text[start:middle]) <= limit:
                fits = middle
            else:
                too_far = middle
        yield start, fits
        start = fits


def packed(
    text: str, spans: list[Span], measure: Measure, limit: int, overlap: int
) -> Iterator[Span]:
    """Neighbouring parts together, as many as fit."""
    first = 0
    while first < len(spans):
        last = first
        while (
            last + 1 < len(spans) and measure(text[spans[first][0] : spans[last + 1][1]]) <= limit
        ):
            last += 1
        yield spans[first][0], spans[last][1]
        if last + 1 == len(spans):
            return
        first = _overlapping(text, spans, last, first, measure, limit, overlap)


def _overlapping(
    text: str,
    spans: list[Span],
    last: int,
    first: int,
    measure: Measure,
    limit: int,
    overlap: int,
) -> int:
    """Where the next passage begins: it must bring a part that is new, and so get on."""
    begin, end = last + 1, spans[last][1]
    while overlap and begin - 1 > first:
        together = measure(text[spans[begin - 1][0] : spans[last + 1][1]])
        if measure(text[spans[begin - 1][0] : end]) > overlap or together > limit:
            break
        begin -= 1
    return begin
