"""Why the keys of two artifacts differ: the fields of them, and of what they are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from raft_core.store.record import Record

ABSENT = "(absent)"
# It is told an earlier stage's settings, to draw them: `tau` of a report is `filter.tau`.
TELLS = "report"


@dataclass(frozen=True, slots=True)
class Difference:
    """A field, named as in a stage's settings, and its two values."""

    stage: str
    field: str
    one: Any
    other: Any

    @property
    def change(self) -> tuple[str, str, str]:
        return self.field, str(self.one), str(self.other)


def explained(records: Mapping[str, Record], one: Record, other: Record) -> list[str]:
    """A line for every field, with the stages whose keys it is in, the first of the run first."""
    found = list(differences(records, one, other))
    stages: dict[tuple[str, str, str], list[str]] = {}
    for each in reversed(found):
        if not is_told(each, found):
            stages.setdefault(each.change, []).append(each.stage)
    return [line(change, names) for change, names in stages.items()]


def line(change: tuple[str, str, str], stages: list[str]) -> str:
    """The stage is named where the field does not name it."""
    field, one, other = change
    others = [s for s in dict.fromkeys(stages) if s and not field.startswith(f"{s}.")]
    return f"{field}: {one} -> {other}" + (f"  ({', '.join(others)})" if others else "")


def is_told(each: Difference, found: list[Difference]) -> bool:
    """Whether it is an earlier stage's setting that the report repeats."""
    return each.stage == TELLS and any(
        other.stage != TELLS
        and other.field.endswith(f".{each.field}")
        and (other.one, other.other) == (each.one, each.other)
        for other in found
    )


def differences(records: Mapping[str, Record], one: Record, other: Record) -> Iterator[Difference]:
    """All that differs in two artifacts and in what they are made of, the last stage first."""
    by_key = {record.key: record for record in records.values()}
    seen: set[tuple[str, str]] = set()
    pairs = [(one, other)]
    while pairs:
        a, b = pairs.pop(0)
        if a.key == b.key or (a.key, b.key) in seen:
            continue
        seen.add((a.key, b.key))
        if a.stage != b.stage:
            yield Difference("", "stage", a.stage, b.stage)
            continue
        if a.version != b.version:
            yield Difference("", f"version of {a.stage}", a.version, b.version)
        fields, others = flat(a.identity), flat(b.identity)
        for name in sorted(fields.keys() | others.keys(), reverse=True):
            values = fields.get(name, ABSENT), others.get(name, ABSENT)
            if values[0] != values[1]:
                yield Difference(a.stage, name, *values)
        for name in sorted(a.inputs.keys() | b.inputs.keys()):
            keys = a.inputs.get(name), b.inputs.get(name)
            found = [by_key.get(key) if key else None for key in keys]
            if found[0] is not None and found[1] is not None:
                pairs.append((found[0], found[1]))
            elif keys[0] != keys[1]:
                values = keys[0] or ABSENT, keys[1] or ABSENT
                yield Difference("", f"input {name} of {a.stage}", *values)


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
