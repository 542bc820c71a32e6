"""What is installed is what was locked: every release by the hashes of its files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
PINNED = re.compile(r"[A-Za-z0-9._-]+(\[[\w,-]+\])?==[A-Za-z0-9._+!-]+( ; .+)? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")


@pytest.mark.parametrize("lock", LOCKS, ids=[lock.name for lock in LOCKS])
def test_lock_pins_every_release_by_hash_and_names_no_host(lock: Path) -> None:
    heading, *lines = lock.read_text().splitlines()
    assert heading.startswith("# Made by requirements/lock.sh")
    releases = [number for number, line in enumerate(lines) if not line.startswith(" ")]
    assert len(releases) > 5
    for number, line in enumerate(lines):
        assert (PINNED if number in releases else HASH).fullmatch(line), line
    assert all(number + 1 not in releases for number in releases)
    assert "://" not in lock.read_text()


@pytest.mark.parametrize("file", ["Makefile", "docker/Dockerfile", ".ci/run", "docs/deployment.md"])
def test_installing_takes_locks_with_hashes_or_a_version(file: str) -> None:
    """torch alone has several builds of one version."""
    text = (ROOT / file).read_text().replace("\\\n", " ")
    for call in re.findall(r"(?:pip install|-m \$\(INSTALL\))([^&|;\n]*)", text):
        words = call.replace("}", "} ").split()
        named = [w for w in words if not w.startswith("-") and "lock" not in w and w != "}"]
        torch = any("TORCH" in word for word in named)
        exact = bool(named) and all(re.fullmatch(r"[\w-]+==[\w.]+", word) for word in named)
        assert "--require-hashes" in words or torch or exact or not named, call
