"""`raft artifacts`: what a store holds, why keys differ, what is bad or unused."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from raft_core.app.pipeline import STAGES
from raft_core.config.runtime import RuntimeConfig
from raft_core.errors import InputError, StageError, printable
from raft_core.store.artifacts import Store
from raft_core.store.differences import explained
from raft_core.store.garbage import waste
from raft_core.store.leftovers import discard, of_other_releases, without_record
from raft_core.store.private_files import keep_private
from raft_core.store.record import Record
from raft_core.store.shared import SharedStore, open_store

CENTURY = 36_500
CANDIDATES = 5


def main(arguments: Sequence[str]) -> int:
    """Look at the store, and return 0, or 1 where `verify` found damage and left it.

    Raises:
        InputError: the store cannot be used, or an artifact is not in it.
    """
    options = _parser().parse_args(arguments)
    keep_private()
    store = open_store(RuntimeConfig(), options.store, writes=False)
    if not isinstance(store, SharedStore) and not store.root.is_dir():
        raise InputError(f"store {store}: no such folder; name one (--store, or RAFT_STORE)")
    store.require_store()
    code: int = options.action(store, options)
    return code


def list_artifacts(store: Store, options: argparse.Namespace) -> int:
    for record in sorted(store.records(options.stage), key=lambda r: (r.created, r.stage)):
        inputs = " ".join(f"{name}={key}" for name, key in record.inputs.items())
        print(f"{record.created}  {record.seconds:8.1f} s  {record.stage}/{record.key}  {inputs}")
    return 0


def explain(store: Store, options: argparse.Namespace) -> int:
    """Print which fields made two artifacts' keys differ, in whichever stage before them."""
    records = {record.name: record for record in store.records()}
    one, other = (find(records, name) for name in (options.one, options.other))
    lines = explained(records, one, other)
    print("\n".join(lines), end="\n" if lines else "")
    if not lines:
        print("the keys are equal" if one.key == other.key else "no recorded field differs")
    return 0


def verify(store: Store, options: argparse.Namespace) -> int:
    """Check every file of every artifact against its recorded digest.

    Returns:
        1 where something is damaged, and stays so.
    """
    checked, damaged, left = 0, 0, 0
    for record in store.records(options.stage):
        checked += 1
        if damage := damage_of(store, record):
            damaged += 1
            done = repaired(store, record) if options.repair else "call again with --repair"
            left += damage_of(store, record) != "" and done != "removed"
            print(f"damaged: {record.name}: {damage}; {done}")
    torn = [f for f in without_record(store.root) if options.stage in (None, f.parent.name)]
    for folder in torn:
        gone = options.repair and discard(store, folder)
        left += not gone
        said = "removed" if gone else "counts as absent; call again with --repair"
        print(printable(f"no valid record: {folder.parent.name}/{folder.name}; {said}"))
    there = store.torn_there if isinstance(store, SharedStore) else []
    for place in there:
        said = "counts as absent, until a run makes it"
        print(printable(f"no valid record at the address: {place}; {said}"))
    for folder in of_other_releases(store.root):
        print(printable(f"of another release: {folder.parent.name}/{folder.name}; not checked"))
    bad = len(torn) + len(there)
    print(f"{checked + bad} artifacts checked, {damaged + bad} damaged")
    return 1 if left or there else 0


def damage_of(store: Store, record: Record) -> str:
    """In words; what cannot be looked at counts as damaged, and ends no verification."""
    try:
        return store.damage(record)
    except StageError as error:
        return str(error)


def repaired(store: Store, record: Record) -> str:
    try:
        return store.repair(record)
    except StageError:
        return "left"


def collect_garbage(store: Store, options: argparse.Namespace) -> int:
    """List, or with --delete remove, what is old and what nothing that is kept stands on.

    Raises:
        InputError: a run of this machine uses the store, and something is to be removed.
    """
    with store.alone() as alone:
        if options.delete and not alone:
            raise InputError(
                "a run is using this store, and may need what it has found there; call gc again "
                "when it has ended"
            )
        return collect(store, options)


def collect(store: Store, options: argparse.Namespace) -> int:
    records = {record.name: record for record in store.records()}
    before = datetime.now(UTC) - timedelta(days=options.days)
    keep = {find(records, name).name for name in options.keep}
    artifacts, unfinished = waste(store, before, keep, options.refused)
    gone, freed = {"artifact": 0, "unfinished": 0}, 0
    for kind, found in (("artifact", artifacts), ("unfinished", unfinished)):
        for each in found:
            removed = each.remove() if options.delete else True
            gone[kind] += removed
            freed += each.size if removed else 0
            said = "in use" if not removed else "removed" if options.delete else "unused"
            print(f"{said}: {each.name}" + (f" ({readable(each.size)})" if each.size else ""))
    print(
        f"{gone['artifact']} of {len(records)} artifacts, {gone['unfinished']} unfinished stages, "
        f"{readable(freed)}",
        end="",
    )
    print(" removed" if options.delete else "; call again with --delete to remove them")
    return 0


def readable(size: float) -> str:
    """Bytes in the largest unit that leaves at least one."""
    units = ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:.0f} B" if units[0] == "B" else f"{size:.1f} {units[0]}"


def find(records: Mapping[str, Record], name: str) -> Record:
    """The artifact of this `stage/key`, or of a key's first digits.

    Raises:
        InputError: none or several are named so.
    """
    found = [r for r in records.values() if r.name == name or r.key.startswith(name)]
    if "/" in name:
        found = [r for r in records.values() if r.name.startswith(name)]
    if len(found) != 1:
        names = ", ".join(record.name for record in found[:CANDIDATES])
        more = ", ..." if len(found) > CANDIDATES else ""
        raise InputError(
            f"artifact '{name}': {len(found) or 'none'} in the store"
            f"{f' ({names}{more})' if found and name else ''}; "
            "`raft artifacts ls` lists them"
        )
    return found[0]


def days(text: str) -> float:
    """A number of days that a date can be so far away from today."""
    number = float(text)
    if not 0 <= number <= CENTURY:
        raise argparse.ArgumentTypeError(f"{text}: give a number from 0 to {CENTURY}")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="raft artifacts", description=__doc__, epilog="example: raft artifacts gc --days 30"
    )
    where = argparse.ArgumentParser(add_help=False)
    for each, default in ((parser, None), (where, argparse.SUPPRESS)):  # before or after the action
        each.add_argument(
            "--store", default=default, help="folder or URL; default: RAFT_STORE, or .raft/store"
        )
    actions = parser.add_subparsers(required=True)
    ls = actions.add_parser("ls", help="all artifacts, the oldest first", parents=[where])
    why = actions.add_parser(
        "explain", help="which fields made two artifacts' keys differ", parents=[where]
    )
    for name in ("one", "other"):
        why.add_argument(name, metavar="STAGE/KEY", help="or the first digits of a key")
    check = actions.add_parser(
        "verify", help="check every file against its digest", parents=[where]
    )
    for each in (ls, check):
        each.add_argument("--stage", choices=sorted(STAGES), help="of this stage alone")
    check.add_argument(
        "--repair", action="store_true", help="remove what is damaged, or bring it from the URL"
    )
    gc = actions.add_parser(
        "gc", help="what is old and unused; removes it with --delete", parents=[where]
    )
    gc.add_argument("--days", type=days, default=30, help="what was used since then is kept")
    gc.add_argument("--keep", action="append", default=[], metavar="STAGE/KEY")
    gc.add_argument(
        "--refused", action="store_true", help="what models that were refused stand on is unused"
    )
    gc.add_argument("--delete", action="store_true")
    for each, action in ((ls, list_artifacts), (why, explain), (check, verify)):
        each.set_defaults(action=action)
    gc.set_defaults(action=collect_garbage)
    return parser
