"""`make ui`: MLflow's own server on loopback, and the address of the page that lists the runs."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from raft_core.settings import load_runtime
from tasks.tracking import UI_PORT, experiment_id


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tasks.browse", description=__doc__)
    parser.add_argument("--port", type=int, default=UI_PORT)
    parser.add_argument("--profile", default="mini", help="conf/PROFILE.yaml, or a file")
    options = parser.parse_args()
    port, uri = options.port, load_runtime(options.profile).tracking_uri
    if uri.startswith("http"):
        print(f"runs: {uri} (the profile's own tracking server)")
        return 0
    experiment = experiment_id(uri)
    if experiment is None:
        print(f"error: no runs yet in {uri}; `make run` makes the first", file=sys.stderr)
        return 2
    print(f"runs: http://127.0.0.1:{port}/#/experiments/{experiment}/runs", flush=True)
    server = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    return subprocess.call(
        [*server, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    )


if __name__ == "__main__":
    sys.exit(main())
