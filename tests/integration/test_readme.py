"""What the README shows in Python does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from tests.integration.flow import ROOT, Flow

SMALLER = """
import raft_core
loaded = raft_core.load_settings
def smaller(profile, domain):
    assert (profile, domain) == ("mini", "law")
    return loaded({profile!r}, domain, limit=150)
raft_core.load_settings = smaller
"""
AFTERWARDS = """
assert [row["method"] for row in run.report["methods"]][0] == "base"
assert (run.artifact("fuse") / "record.json").is_file()
assert not {"prefect", "mlflow", "torch"} & __import__("sys").modules.keys()
"""


def test_lines_of_the_readme_run_and_open_an_artifact(first: Flow) -> None:
    """As they stand there; what is loaded is the small profile, whose run is in the store."""
    (lines,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    prelude = SMALLER.format(profile=str(first.home.parent / "small.yaml"))
    done = subprocess.run(
        [sys.executable, "-c", prelude + lines + AFTERWARDS],
        cwd=ROOT,
        env=os.environ | {"RAFT_HOME": str(first.home)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# ")
    assert "/artifacts/fuse/" in done.stdout.splitlines()[-1]
    assert done.stderr.count(" Cached") == len(first.stages)
