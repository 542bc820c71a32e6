"""What all tests share."""

from __future__ import annotations

import os

# Before torch is imported: two threads that wait for each other crawl when anything else runs.
os.environ.setdefault("OMP_NUM_THREADS", "1")
