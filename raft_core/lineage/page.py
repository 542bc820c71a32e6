"""The page `lineage.html`: one file that opens offline, loads nothing and runs no text of the rows.

The rows stand in it as JSON that a script of a known digest turns into text nodes; its
Content-Security-Policy allows that script and its style and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raft_core.lineage.differences import difference
from raft_core.lineage.provenance import MadeWith
from raft_core.lineage.rows import STATUSES
from raft_core.lineage.summary import Summary

ASSETS = Path(__file__).parent / "assets"
MOST_CHARACTERS = 4_000  # of one text on the page; the table has all
# What could end a script element or a JavaScript string, inside of JSON strings.
UNSAFE_IN_SCRIPT = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the page says beside the rows; `tau` is the filter's least cosine, if it ran."""

    domain: str
    tau: float | None
    seed: int
    made_with: MadeWith


def render_page(rows: Iterable[Mapping[str, Any]], summary: Summary, facts: Facts) -> str:
    """The page with these rows of all that `summary` counted."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    shown = [page_row(row) for row in rows]
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = ((ASSETS / f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    return environment.get_template("page.html").render(
        facts=facts,
        shown=len(shown),
        summary=summary,
        statuses={status: summary.statuses[status] for status in STATUSES},
        data=script_json({"tau": facts.tau, "rows": shown}),
        style=style,
        script=script,
        style_digest=content_digest(style),
        script_digest=content_digest(script),
    )


def script_json(value: Any) -> str:
    """JSON that ends no script element, whatever its strings hold."""
    plain = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return plain.translate(UNSAFE_IN_SCRIPT)


def content_digest(content: str) -> str:
    """As a Content-Security-Policy names an inline script or style."""
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def page_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as the page's script reads it: the reference, and every version beside it."""
    means = [c["mean"] for c in row["candidates"] or () if c["mean"] is not None]
    return {
        **{name: row[name] for name in ("id", "split", "status", "reason", "detail", "expected")},
        "stage": row["decided_by"],
        "question": shown_text(row["question"]),
        "reference": shown_text(row["reference"]),
        "source": row["target_source"],
        "cosine": row["filter"] and row["filter"]["similarity"],
        "mean": max(means, default=None),
        "versions": list(_versions(row)),
    }


def _versions(row: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    rewrite, verdict = row["rewrite"], row["filter"]
    if rewrite is not None:
        told = {"passed": verdict["passed"], "reason": verdict["reason"]}
        yield _version(
            row,
            rewrite,
            label="Rewrite",
            chosen=row["target_source"] == "rewrite",
            tokens=rewrite["tokens"],
            cosine=verdict["similarity"],
            guard=verdict["guard"],
            **told,
        )
    for candidate in row["candidates"] or ():
        told = {name: candidate[name] for name in ("mean", "votes", "guard", "chosen")}
        yield _version(row, candidate, label=f"Fusion {candidate['round'] + 1}", **told)


def _version(row: Mapping[str, Any], said: Mapping[str, Any], **told: Any) -> dict[str, Any]:
    reference, text = (shown_text(value)["text"] for value in (row["reference"], said["text"]))
    return told | {
        "finish": said["finish_reason"],
        "error": said["error"],
        "parts": difference(reference, text) if text else [],
        "more": shown_text(said["text"])["more"],
    }


def shown_text(text: str | None) -> dict[str, Any]:
    """The beginning of a text, and how many characters follow; no text is an empty one."""
    text = text or ""
    return {"text": text[:MOST_CHARACTERS], "more": max(0, len(text) - MOST_CHARACTERS)}
