"""A domain's models in the registry: list them, go back to the one before, or promote by hand."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from flows.servers import require_answering
from raft_core.app.settings import load_runtime
from raft_core.errors import InputError
from raft_core.store.private_files import keep_private
from tasks.tracking import Registry


def main(arguments: Sequence[str]) -> int:
    """Act on a domain's models: `raft models list|promote|rollback`."""
    parser = argparse.ArgumentParser(
        prog="raft models", description=__doc__, epilog="example: raft models list --domain law"
    )
    parser.add_argument("action", choices=["list", "promote", "rollback"])
    parser.add_argument("--domain", required=True, help="the domain's name")
    parser.add_argument("--version", help="the version to promote")
    parser.add_argument("--profile", default="mini", help="conf/PROFILE.yaml, or a file")
    act(parser.parse_args(arguments))
    return 0


def act(options: argparse.Namespace) -> None:
    """Do it, and print what the registry then says.

    Raises:
        InputError: there is no such version, or none to go back to.
        StageError: the registry cannot be asked.
    """
    runtime = load_runtime(options.profile)
    keep_private(runtime.home_folder)
    uri, registry = runtime.tracking_uri, Registry(runtime, options.domain)
    if uri.startswith(("http://", "https://")):  # somebody waits at a terminal
        remedy = "start it, or mend runtime.mlflow_uri or MLFLOW_TRACKING_URI"
        require_answering(uri, "MLflow's server", remedy, timeout=10)
    if options.action == "rollback":
        left, champion = registry.roll_back()
        print(f"{registry.name}: version {champion.number} in place of version {left.number}\n")
    elif options.action == "promote":
        known = {version.number: version for version in registry.versions()}
        if options.version not in known:
            raise InputError(
                f"{registry.name} has no version '{options.version}'; "
                f"it has {', '.join(known) or 'none'}"
            )
        registry.decide(known[options.version], promote=True)
        print(f"{registry.name}: version {options.version} is promoted\n")
    print("\n".join(listed(registry)))


def listed(registry: Registry) -> list[str]:
    """A line per version, the newest first."""
    champion = registry.champion()
    lines = []
    for version in registry.versions():
        used = "champion" if champion and champion.number == version.number else ""
        decision = version.decision or "undecided"
        lines.append(f"version {version.number:<4} {decision:<10} {used}".rstrip())
    return lines or [f"{registry.name} has no version yet"]
