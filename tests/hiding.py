"""Packages that are not there for a process and all that it starts."""

from __future__ import annotations

from pathlib import Path

# Python imports it first.
SITE = """
from importlib.machinery import PathFinder

plain = PathFinder.find_spec

def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in {hidden} else plain(name, path, target)

PathFinder.find_spec = staticmethod(find_spec)
"""


def without(folder: Path, *hidden: str) -> dict[str, str]:
    """Return the environment in which these packages cannot be found; `folder` holds what hides."""
    site = folder / "hiding"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(SITE.format(hidden=set(hidden) or "()"))
    return {"PYTHONPATH": str(site)}
