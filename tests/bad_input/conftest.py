"""What the cases share."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """Rows of which every split gets some."""
    return [
        {"id": f"r{n}", "question": f"What is the {n}th word of list {n * 7}?", "answer": f"w{n}"}
        for n in range(80)
    ]
