"""What the command line says of a server that `make up` has left."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.api import require_answer
from raft_core.errors import InputError


def test_noted_server_that_does_not_answer_is_one_error_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    file = tmp_path / "prefect.toml"
    require_answer(file)
    file.write_text('[api]\nurl = "http://127.0.0.1:1/api"\n')
    with pytest.raises(
        InputError, match=r"127\.0\.0\.1:1/api.*does not answer.*make up.*make down"
    ):
        require_answer(file)
    monkeypatch.setenv("PREFECT_API_URL", "http://user:hidden@127.0.0.1:1/api")
    with pytest.raises(InputError, match="PREFECT_API_URL names a Prefect server") as told:
        require_answer(file)
    assert "hidden" not in str(told.value)
    monkeypatch.setenv("PREFECT_API_URL", "nonsense")
    with pytest.raises(InputError, match="does not answer"):
        require_answer(file)
