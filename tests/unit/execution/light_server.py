"""A stage server of which a stage is a few lines: `python light_server.py`, for tests."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from raft_core.execution import stage_server


def stage(arguments: list[str]) -> int:
    """What the first argument says; the others are a stage's own."""
    what = arguments[0]
    if what == "print":
        print("to stdout")
        print(f"to stderr, stdin is {sys.stdin.read()!r}", file=sys.stderr)
    elif what == "modules":
        print(" ".join(sys.modules))
    elif what == "descriptors":
        folder = Path("/proc/self/fd")
        print(sorted({os.readlink(link) for link in folder.iterdir() if link.exists()}))
    elif what == "raise":
        raise ValueError("nobody catches this")
    elif what == "exit":
        sys.exit("a message")
    elif what == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif what == "sleep":
        time.sleep(60)
    return int(what) if what.isdigit() else 0


if __name__ == "__main__":
    sys.exit(stage_server.main(sys.argv[1:], stage))
