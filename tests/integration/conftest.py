"""What the integration tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.flow import Flow, run_flow


def pytest_collection_modifyitems(items: list[Any]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> Flow:
    """The small flow's first run, on 150 rows of the law domain."""
    flow = run_flow(tmp_path_factory.mktemp("flow"), "--limit", "150")
    assert flow.code == 0, flow.output
    return flow
