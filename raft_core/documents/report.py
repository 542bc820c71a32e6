"""The report on a preparation: counts by stage and reason, and some pairs to look at."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raft_core.errors import RaftError

EXAMPLES = 5
STAGES = {
    "passages": "passages, and documents without one",
    "ask": "pairs proposed, and passages without one",
    "vote": "pairs voted on",
    "pairs": "pairs approved",
}


class NoPairsError(RaftError):
    """Nothing was kept; the message counts why."""


def require_pairs(summary: Mapping[str, Any], rejected: Path) -> None:
    """A preparation without a pair has failed, whatever its stages did.

    Raises:
        NoPairsError: with the reasons, and the file of everything that was rejected.
    """
    if not summary["pairs"]:
        why = "; ".join(f"{n}: {reasons(c)}" for n, c in summary["stages"].items() if reasons(c))
        raise NoPairsError(
            f"no pair of {summary['documents']} documents was kept ({why}); every rejected row is "
            f"in {rejected}"
        )


def report(summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown without HTML."""
    lines = [
        "# Question-answer pairs from documents",
        "",
        f"{summary['documents']} documents, {summary['pairs']} pairs kept.",
        "",
        "| stage | rows in | kept | rejected |",
        "| --- | ---: | ---: | --- |",
    ]
    for name, counts in summary["stages"].items():
        what, why = STAGES[name], reasons(counts)
        lines.append(f"| {name}: {what} | {counts['in']} | {counts['kept']} | {why} |")
    lines += ["", "## Examples", ""]
    for row in examples(rows):
        approving = sum(
            {vote["answerable"], vote["grounded"], vote["self_contained"] or "yes"} == {"yes"}
            for vote in row["votes"]
        )
        place = f"{plain(row['source'])}, characters {row['start']} to {row['end']}"
        lines += [
            f"- **{plain(row['question'])}**",
            f"  {plain(row['answer'])}",
            f"  ({place}; {approving} of {len(row['votes'])} voters approve)",
        ]
    return "\n".join(lines) + "\n"


def reasons(counts: Mapping[str, Any]) -> str:
    """The rejections of a stage, the most frequent first."""
    by_count = sorted(counts["rejected"].items(), key=lambda item: -item[1])
    return ", ".join(f"{count} {reason}" for reason, count in by_count)


def examples(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Some rows, chosen by the hash of their ids, in the order of the file."""

    def place(row: Mapping[str, Any]) -> str:
        return hashlib.sha256(str(row["id"]).encode()).hexdigest()

    chosen = {row["id"] for row in sorted(rows, key=place)[:EXAMPLES]}
    return [row for row in rows if row["id"] in chosen]


def plain(text: str, longest: int = 300) -> str:
    """One line that no Markdown and no HTML can start in."""
    line = " ".join(text.split())
    line = line if len(line) <= longest else f"{line[: longest - 3]}..."
    for sign in "\\`*_[]<>|#":
        line = line.replace(sign, f"\\{sign}")
    return line
