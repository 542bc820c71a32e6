"""What every stage function gets: its configuration, its inputs, and where to write."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raft_core.progress import Progress
from raft_core.records import Rejection, write_jsonl
from raft_core.runtime import RuntimeConfig
from raft_core.spending import Spending


@dataclass(frozen=True, slots=True)
class StageRun:
    """One execution of a stage.

    `inputs` maps names to artifact folders, `out` is where the artifact is written, `scratch` is a
    folder beside it that survives a crash and is no part of the artifact. `engines` are those that
    it loaded: they live as long as this does.
    """

    config: Any
    inputs: dict[str, Path]
    out: Path
    scratch: Path
    runtime: RuntimeConfig
    progress: Progress
    spending: Spending = field(default_factory=Spending)
    engines: list[Any] = field(default_factory=list)

    def account(self, rows_in: int, kept: int, rejections: Sequence[Rejection]) -> None:
        """Write rejected.jsonl and counts.json; no row may be lost.

        Raises:
            AssertionError: rows in differ from rows kept plus rows rejected.
        """
        if rows_in != kept + len(rejections):
            raise AssertionError(f"{rows_in} rows in, {kept} kept, {len(rejections)} rejected")
        write_jsonl(self.out / "rejected.jsonl", rejections)
        reasons = dict(Counter(rejection.reason for rejection in rejections).most_common())
        counts = {"in": rows_in, "kept": kept, "rejected": reasons}
        (self.out / "counts.json").write_text(json.dumps(counts, indent=1))
