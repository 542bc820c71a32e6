"""What the command line says of a server that `make up` has left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flows.api import require_answer
from flows.servers import require_login
from raft_core.errors import InputError
from tasks.serving.access import basic, keep_direct
from tests.endpoints import Asked, Reply, endpoint


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


LOGIN = "raft:secret"


def prefect(asked: Asked) -> Reply:
    """A server that lets this login in."""
    open_to_all = asked.path.endswith("/health")
    known = asked.headers.get("Authorization") == basic(LOGIN)
    return Reply(200 if open_to_all or known else 401, {})


def test_server_that_turns_the_login_away_is_one_error_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
    file = tmp_path / "prefect.toml"
    with endpoint(prefect) as url:
        file.write_text(f'[api]\nurl = "{url}"\nauth_string = "{LOGIN}"\n')
        require_answer(file)
        file.write_text(f'[api]\nurl = "{url}"\n')
        with pytest.raises(InputError, match="asks for a login; set PREFECT_API_AUTH_STRING"):
            require_answer(file)
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "raft:wrong")
        with pytest.raises(InputError, match="asks for another login"):
            require_answer(file)


def test_login_of_make_up_goes_to_no_other_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "it ends as it was")
    monkeypatch.delenv("PREFECT_API_AUTH_STRING")
    file, sent = tmp_path / "prefect.toml", []
    file.write_text(f'[api]\nurl = "http://127.0.0.1:1/api"\nauth_string = "{LOGIN}"\n')

    def elsewhere(asked: Asked) -> Reply:
        sent.append(asked.headers.get("Authorization"))
        return Reply(200, {})

    with endpoint(elsewhere) as url:
        monkeypatch.setenv("PREFECT_API_URL", url)
        require_answer(file)
    assert sent == [None, None]
    assert os.environ["PREFECT_API_AUTH_STRING"] == ""


def test_login_follows_no_redirect_and_passes_no_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
    file, sent = tmp_path / "prefect.toml", []

    def elsewhere(asked: Asked) -> Reply:
        sent.append(asked.headers.get("Authorization"))
        return Reply(200, {})

    with endpoint(elsewhere) as other:

        def here(asked: Asked) -> Reply:
            health = asked.path.endswith("/health")
            return Reply(200, {}) if health else Reply(302, {}, {"Location": f"{other}/x"})

        with endpoint(here) as url:
            file.write_text(f'[api]\nurl = "{url}"\nauth_string = "{LOGIN}"\n')
            require_answer(file)
            assert sent == []
            for name, value in (("http_proxy", other), ("no_proxy", ""), ("NO_PROXY", "")):
                monkeypatch.setenv(name, value)
            keep_direct()
            require_login(url, LOGIN, "here")
    assert LOGIN not in str(sent)
    assert [each for each in sent if each] == []


def test_login_of_a_prefect_profile_is_left_to_prefect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
    with endpoint(lambda _: Reply(200, {})) as url:
        monkeypatch.setenv("PREFECT_API_URL", url)
        require_answer(tmp_path / "prefect.toml")
    assert "PREFECT_API_AUTH_STRING" not in os.environ
