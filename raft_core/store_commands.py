"""`python -m raft_core artifacts`: what a store holds, why keys differ, what is bad or unused."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from raft_core.artifacts import Record, Store
from raft_core.errors import InputError
from raft_core.runtime import RuntimeConfig
from raft_core.shared_store import SharedStore, open_store
from raft_core.stages import STAGES

# A promoted model is compared with the next one: what a decision stands on is no waste.
KEPT_STAGE = "promote"
ABSENT = "(absent)"
CENTURY = 36_500


def main(arguments: Sequence[str]) -> int:
    """Returns 0, or 1 where `verify` found damage.

    Raises:
        InputError: the store cannot be used, or an artifact is not in it.
    """
    options = _parser().parse_args(arguments)
    store = open_store(RuntimeConfig(), options.store)
    if not isinstance(store, SharedStore) and not store.root.is_dir():
        raise InputError(f"store {store}: no such folder; name one (--store, or RAFT_STORE)")
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
    found = without_repetitions(dict(differences(records, one, other)))
    for name, (before, after) in found.items():
        print(f"{name}: {before} -> {after}")
    if not found:
        print("the keys are equal" if one.key == other.key else "no recorded field differs")
    return 0


def verify(store: Store, options: argparse.Namespace) -> int:
    """Check every file of every artifact against its recorded digest."""
    checked, damaged = 0, 0
    for record in store.records(options.stage):
        checked += 1
        if not store.verify(record):
            damaged += 1
            print(f"damaged: {record.name}; the next run that needs it makes it again")
    torn = [f for f in store.without_record() if options.stage in (None, f.parent.name)]
    for folder in torn:
        print(f"no valid record: {folder.parent.name}/{folder.name}; counts as absent")
    print(f"{checked + len(torn)} artifacts checked, {damaged + len(torn)} damaged")
    return 1 if damaged or torn else 0


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
    keep |= {name for name, record in records.items() if store.last_used(record) >= before}
    garbage = unused(records, keep)
    for name in garbage:
        gone = store.remove(records[name]) if options.delete else True
        print(f"{'removed' if options.delete and gone else 'unused' if gone else 'in use'}: {name}")
    left = [store.discard(f) if options.delete else f for f in store.abandoned(before)]
    print(f"{len(garbage)} of {len(records)} artifacts, {len(left)} unfinished stages", end="")
    print(" removed" if options.delete else "; call again with --delete to remove them")
    return 0


def find(records: Mapping[str, Record], name: str) -> Record:
    """The artifact of this `stage/key`, or of a key's first digits.

    Raises:
        InputError: none or several are named so.
    """
    found = [r for r in records.values() if r.name == name or r.key.startswith(name)]
    if "/" in name:
        found = [r for r in records.values() if r.name.startswith(name)]
    if len(found) != 1:
        raise InputError(
            f"artifact '{name}': {len(found) or 'none'} in the store; "
            "`python -m raft_core artifacts ls` lists them"
        )
    return found[0]


def differences(
    records: Mapping[str, Record], one: Record, other: Record
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """(field, (value, value)) of all that differs in two artifacts and in what they are made of.

    A field is named as in the settings where the stage keeps it by that name, such as `filter.tau`.
    """
    seen: set[tuple[str, str]] = set()
    pairs = [(one, other)]
    while pairs:
        a, b = pairs.pop()
        if a.key == b.key or (a.key, b.key) in seen:
            continue
        seen.add((a.key, b.key))
        if a.stage != b.stage:
            yield "stage", (a.stage, b.stage)
            continue
        if a.version != b.version:
            yield f"version of {a.stage}", (a.version, b.version)
        fields, others = flat(a.identity), flat(b.identity)
        for name in sorted(fields.keys() | others.keys()):
            values = fields.get(name, ABSENT), others.get(name, ABSENT)
            if values[0] != values[1]:
                yield name, values
        for name in sorted(a.inputs.keys() | b.inputs.keys()):
            keys = a.inputs.get(name), b.inputs.get(name)
            found = [next((r for r in records.values() if r.key == key), None) for key in keys]
            if found[0] is not None and found[1] is not None:
                pairs.append((found[0], found[1]))
            elif keys[0] != keys[1]:
                yield f"input {name} of {a.stage}", (keys[0] or ABSENT, keys[1] or ABSENT)


def without_repetitions(found: Mapping[str, tuple[Any, Any]]) -> dict[str, tuple[Any, Any]]:
    """A later stage may be told an earlier one's setting: `tau` of a report is `filter.tau`."""
    return {
        name: values
        for name, values in found.items()
        if not any(o.endswith(f".{name}") and found[o] == values for o in found)
    }


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested JSON as dotted names and plain values."""
    if isinstance(value, dict) and value:
        parts = value.items()
    elif isinstance(value, list) and value:
        parts = {str(index): item for index, item in enumerate(value)}.items()
    else:
        return {name: value}
    found: dict[str, Any] = {}
    for key, item in parts:
        found |= flat(item, f"{name}.{key}" if name else str(key))
    return found


def unused(records: Mapping[str, Record], keep: set[str]) -> list[str]:
    """Names of artifacts that nothing to be kept, and no decision, is made of."""
    by_key = {record.key: record for record in records.values()}
    waiting = [r for r in records.values() if r.stage == KEPT_STAGE or r.name in keep]
    used: set[str] = set()
    while waiting:
        record = waiting.pop()
        if record.name not in used:
            used.add(record.name)
            waiting += [by_key[key] for key in record.inputs.values() if key in by_key]
    return sorted(records.keys() - used)


def days(text: str) -> float:
    """A number of days that a date can be so far away from today."""
    number = float(text)
    if not 0 <= number <= CENTURY:
        raise argparse.ArgumentTypeError(f"{text}: give a number from 0 to {CENTURY}")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m raft_core artifacts", description=__doc__)
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
    gc = actions.add_parser(
        "gc", help="what is old and unused; removes it with --delete", parents=[where]
    )
    gc.add_argument("--days", type=days, default=30, help="what was used since then is kept")
    gc.add_argument("--keep", action="append", default=[], metavar="STAGE/KEY")
    gc.add_argument("--delete", action="store_true")
    for each, action in ((ls, list_artifacts), (why, explain), (check, verify)):
        each.set_defaults(action=action)
    gc.set_defaults(action=collect_garbage)
    return parser
