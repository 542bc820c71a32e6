"""No key or password of the environment is found in anything that a run leaves or prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.integration.flow import ROOT, small_profile

pytestmark = pytest.mark.timeout(600)
SECRETS = {
    "RAFT_TEST_KEY": "sk-raft-4f1d9c2ab7",
    "HF_TOKEN": "hf_Qx7secretTokenOfTheHub",
    "AWS_ACCESS_KEY_ID": "AKIASECRETOFRAFT",
    "AWS_SECRET_ACCESS_KEY": "aws/secret/8d7c6b",
    "MLFLOW_TRACKING_PASSWORD": "password-of-mlflow-31",
    "MLFLOW_TRACKING_USERNAME": "name-of-mlflow-31",
    "OPENAI_API_KEY": "sk-openai-0a9b8c",
}


class TalkativeEndpoint(BaseHTTPRequestHandler):
    """Answers, but every thirtieth request it refuses, and repeats the key as it does."""

    asked = 0

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        TalkativeEndpoint.asked += 1
        key = self.headers["Authorization"]
        assert key == f"Bearer {SECRETS['RAFT_TEST_KEY']}"
        message = {"role": "assistant", "content": f"re: {body['messages'][0]['content'][-40:]}"}
        content: dict[str, Any] = {
            "id": "1", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        }  # fmt: skip
        refused = TalkativeEndpoint.asked % 30 == 0
        if refused:
            content = {"error": {"message": f"Incorrect API key provided: {key}"}}
        data = json.dumps(content).encode()
        self.send_response(400 if refused else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), TalkativeEndpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_whole_run_leaves_no_secret_anywhere(address: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    endpoint = f"{{base_url: '{address}', api_key_env: RAFT_TEST_KEY, max_failed_share: 0.5}}"
    overrides = [
        "domain.limit=100", "distill.epochs=0.05",
        f"runtime.endpoints={{far: {endpoint}}}",
        "fusion_engine={kind: openai, endpoint: far, model: m, structured: none}",
    ]  # fmt: skip
    done = subprocess.run(
        [
            *(sys.executable, "-m", "flows.cli", "run", "--domain", "law"),
            *("--profile", str(small_profile(tmp_path))),
            *(part for each in overrides for part in ("--set", each)),
        ],
        cwd=ROOT,
        env=os.environ | SECRETS | {"RAFT_HOME": str(home)},
        capture_output=True,
        timeout=500,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed.decode()
    assert TalkativeEndpoint.asked > 30
    kept = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert any(b"Incorrect API key provided: Bearer ***" in text for text in kept.values())
    names = {str(path.relative_to(home)) for path in kept}
    assert {"mlflow.db", "generations.sqlite"} <= names
    for name, secret in SECRETS.items():
        found = [str(path) for path, text in kept.items() if secret.encode() in text]
        assert not found, name
        assert secret.encode() not in printed, name
