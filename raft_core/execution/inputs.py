"""The inputs of a stage by name: one artifact, several in an order (shards), or some by name.

Only this module knows how they are written flat: `rewrite.00000`, `evaluate.base`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from raft_core.store.record import RECORD, files_in, is_part

Value = TypeVar("Value")
Named = Mapping[str, Value | Sequence[Value] | Mapping[str, Value]]


def flat(inputs: Named[Value]) -> dict[str, Value]:
    """Return every single input under a name of its own; shards keep their order."""
    found: dict[str, Value] = {}
    for name, value in inputs.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{part}": each for part, each in value.items()}
        elif isinstance(value, Sequence):
            found |= {f"{name}.{place:05d}": each for place, each in enumerate(value)}
        else:
            found[name] = value
    return found


def group(name: str) -> str:
    """Return the name under which a flat one was given."""
    return name.partition(".")[0]


class Inputs(dict[str, Path]):
    """Folders by flat name, with those of one name together."""

    def all(self, name: str) -> list[Path]:
        """Return the folders that were given in an order, in it; one alone is a list of one."""
        return [self[each] for each in sorted(self) if group(each) == name]

    def named(self, name: str) -> dict[str, Path]:
        """Return the folders that were given by name."""
        prefix = f"{name}."
        return {n.removeprefix(prefix): path for n, path in self.items() if n.startswith(prefix)}


def linked(folder: Path, parts: Sequence[str], into: Path) -> Path:
    """Return a folder with links to these parts of an artifact, and to nothing else of it.

    A stage sees what its key stands for: a file that it does not declare is not there.

    Args:
        folder: the artifact.
        parts: glob patterns of relative paths.
        into: where the links are made; what lies there is removed.
    """
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    for name in (*files_in(folder), RECORD):
        if is_part(name, parts) and (folder / name).is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            (into / name).symlink_to((folder / name).resolve())
    return into
