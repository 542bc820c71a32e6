"""Endpoints that send rows elsewhere, answers that grow, and servers that never finish."""

from __future__ import annotations

import gzip
import resource
import socket
import threading
import time
import zlib
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from raft_core.engines.openai_answers import tokens_used
from raft_core.errors import EngineError
from tests.endpoints import Asked, Reply, endpoint, said
from tests.unit.engines.test_openai_limits import Served, ask, questions

TIMEOUT = 1.0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_endpoint_redirect_ends_the_stage_and_sends_nothing_on(status: int, tmp_path: Path) -> None:
    elsewhere: list[Asked] = []

    def take(asked: Asked) -> Reply:
        elsewhere.append(asked)
        return said("mine")

    with endpoint(take) as other:
        told = {"Location": f"{other}/chat?token=abc\x1b[2J"}
        served = Served(tmp_path, lambda _: Reply(status, {}, told), max_failed_share=1)
        with pytest.raises(EngineError, match=r"sends on to another address.*base_url") as ended:
            served.ask(*questions(20))
    assert elsewhere == []
    assert served.prompts == ["q0"]
    assert other.removeprefix("http://") in str(ended.value)
    assert "abc" not in str(ended.value)
    assert "\x1b" not in str(ended.value)


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress),
        ("deflate", raw_deflate),
        ("GZIP, gzip", gzip.compress),
        ("br", bytes),
    ],
)
def test_endpoint_compressed_answer_is_not_unpacked_and_ends_the_stage(
    encoding: str, packed: object, tmp_path: Path
) -> None:
    """A few hundred kilobytes would become a few hundred megabytes."""
    assert callable(packed)
    body = packed(b"a" * 2**28 if encoding == "gzip" else b"a" * 2**20)
    served = Served(tmp_path, lambda _: Reply(headers={"Content-Encoding": encoding}, raw=body))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(EngineError, match=r"endpoint 'here' compresses its answers") as ended:
        served.ask(*questions(20))
    assert encoding.lower() in str(ended.value)
    assert served.prompts == ["q0"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 2**10


@pytest.mark.parametrize("part", ["{}", "[]", "0"])
def test_endpoint_answer_of_a_million_parts_costs_its_row_at_once(
    part: str, tmp_path: Path
) -> None:
    body = f'{{"choices":[{",".join([part] * 1_000_000)}]}}'.encode()
    served = Served(tmp_path, lambda _: Reply(raw=body), max_failed_share=1)
    started = time.monotonic()
    (answer,) = served.ask("q")
    assert answer.finish_reason == "error"
    assert "the response holds over" in answer.error
    assert time.monotonic() - started < 10  # it took 40 s


def test_endpoint_whose_models_have_no_names_is_one_error(tmp_path: Path) -> None:
    listed = Reply(body={"object": "list", "data": [{"id": 1}, {"id": None}, {"id": "x" * 999}]})
    served = Served(tmp_path, lambda asked: Reply(404) if asked.body else listed)
    with pytest.raises(EngineError, match=r"it serves: x{200} \("):
        served.ask("q")


def test_endpoint_that_says_it_used_less_than_nothing_does_not_count_tokens() -> None:
    usage = SimpleNamespace(usage=SimpleNamespace(total_tokens=-5))
    assert tokens_used(usage) is None


def test_endpoint_that_says_identity_is_read(tmp_path: Path) -> None:
    reply = Reply(body=said("re").body, headers={"Content-Encoding": "identity"})
    assert Served(tmp_path, lambda _: reply).ask("q")[0].text == "re"


def test_endpoint_that_drips_its_headers_is_left_at_the_deadline(tmp_path: Path) -> None:
    served = Served(tmp_path, lambda _: Reply(drip=0.05), timeout_s=TIMEOUT)
    started = time.monotonic()
    with pytest.raises(EngineError, match="Timeout"):
        served.ask("q")
    assert time.monotonic() - started < 5 * TIMEOUT  # 100 s without a deadline


def test_endpoint_that_reads_slowly_is_left_at_the_deadline(tmp_path: Path) -> None:
    """A large body is sent in many parts, of which each is taken in time."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drain() -> None:
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                until = time.monotonic() + 10 * TIMEOUT
                while time.monotonic() < until and connection.recv(300_000):
                    time.sleep(0.1)

        threading.Thread(target=drain, daemon=True).start()
        served = Served(tmp_path, lambda _: said("re"), timeout_s=TIMEOUT)
        started = time.monotonic()
        with pytest.raises(EngineError, match="Timeout"):
            ask(served.stage(f"http://127.0.0.1:{listening.getsockname()[1]}/v1"), "x" * 40_000_000)
    assert time.monotonic() - started < 5 * TIMEOUT


def test_endpoint_deadline_is_each_requests_own(tmp_path: Path) -> None:
    """A connection that is used again does not inherit what an earlier request had left."""

    def slow(asked: Asked) -> Reply:
        time.sleep(0.6 * TIMEOUT)
        return said(asked.prompt)

    served = Served(tmp_path, slow, timeout_s=TIMEOUT)
    assert [c.text for c in served.ask(*questions(3))] == questions(3)
