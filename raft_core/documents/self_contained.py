"""Questions that lean on a passage: nobody who has not seen it can tell what they ask for."""

from __future__ import annotations

from collections.abc import Iterable

from raft_core.data.matching import mentions

# No phrase that a domain may need for itself: a law has articles, and a contract sections.
PHRASES = (
    "the passage",
    "this passage",
    "given passage",
    "provided passage",
    "the excerpt",
    "this excerpt",
    "the snippet",
    "in the text",
    "the text above",
    "this text",
    "the given text",
    "the provided text",
    "according to the text",
    "does the text",
    "this document",
    "the given document",
    "the provided document",
    "according to the document",
    "this paragraph",
    "the paragraph above",
    "the author mention",
    "the author mentions",
    "mentioned above",
    "described above",
    "the above text",
    "the following text",
    "the given context",
    "the provided context",
    "based on the context",
    "provided information",
)


def leaning_phrase(texts: Iterable[str], phrases: Iterable[str] = PHRASES) -> str | None:
    """The first phrase that one of the texts says, up to case and punctuation."""
    for phrase in phrases:
        if any(mentions(text, phrase) for text in texts):
            return phrase
    return None
