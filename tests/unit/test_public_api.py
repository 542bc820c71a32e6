"""The names that a notebook uses, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import raft_core
from raft_core.app.run import run
from raft_core.app.settings import load_settings
from tests.integration.flow import ROOT


def test_public_names_are_those_that_stay() -> None:
    assert raft_core.__all__ == ["Run", "Settings", "__version__", "load_settings", "run"]
    assert raft_core.run is run
    assert raft_core.load_settings is load_settings
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        raft_core.train  # noqa: B018


def test_import_of_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, raft_core; print(len([n for n in sys.modules if n.startswith('raft_core')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "2"
