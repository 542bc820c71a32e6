"""Word by word, what a text says otherwise than another one."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

# Han, kana and Hangul signs one by one, words, any other sign; each with the space behind it.
SPACELESS = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
TOKEN = re.compile(rf"(?:[{SPACELESS}]|[^\W{SPACELESS}]+|[^\w\s])\s*|\s+")
SAME, ADDED, LEFT_OUT = "=", "+", "-"


def difference(reference: str, text: str) -> list[tuple[str, str]]:
    """Runs of `text` that the reference has (=) or lacks (+), and what it leaves out of it (-).

    The runs that are not - make up `text`. Space between words is not compared.
    """
    theirs, ours = TOKEN.findall(reference), TOKEN.findall(text)
    matcher = SequenceMatcher(None, [t.strip() for t in theirs], [t.strip() for t in ours])
    runs: list[tuple[str, str]] = []
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            runs.append((SAME, "".join(ours[c:d])))
            continue
        if a < b:
            runs.append((LEFT_OUT, "".join(theirs[a:b])))
        if c < d:
            runs.append((ADDED, "".join(ours[c:d])))
    return runs
