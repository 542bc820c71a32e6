"""Layer settings: files and overrides, one above the other, with errors that name the layer."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from raft_core.config.secrets import (
    MASK,
    address_with_secret,
    is_secret_name,
    masked,
    secret_in,
)
from raft_core.errors import InputError

KEY_REMEDY = "settings are logged: name the environment variable that holds the key in api_key_env"


class OnceLoader(yaml.SafeLoader):
    """YAML loader like `safe_load`, except that a field given twice is an error."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._flat: set[int] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuse repeated fields as written, before `<<` merges others into them."""
        if id(node) not in self._flat:
            self._flat.add(id(node))
            seen = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                    if (key.tag, key.value) in seen:
                        raise yaml.constructor.ConstructorError(
                            None, None, f"field '{key.value}' stands there twice", key.start_mark
                        )
                    seen.add((key.tag, key.value))
        super().flatten_mapping(node)


@dataclass(frozen=True, slots=True)
class Layer:
    """One source of settings, with the name that errors give it."""

    source: str
    values: Mapping[str, Any]

    def depth(self, location: Sequence[int | str]) -> int:
        """Return how much of a field's location is set here; tags of unions are passed over."""
        found = 0
        inside: Any = self.values
        for part in location:
            if isinstance(inside, Mapping) and part in inside:
                found, inside = found + 1, inside[part]
        return found


def parse_override(override: str) -> dict[str, Any]:
    """Return `filter.tau=0.7` as a nested dict; the value is read as YAML.

    Raises:
        InputError: it has no '=', or its value cannot be read.
    """
    name, separator, text = override.partition("=")
    if not separator or not name.strip():
        raise InputError(f"override '{cut(name)}': write it as section.field=value")
    try:
        value: Any = yaml.load(text, Loader=OnceLoader)
    except Exception:  # PyYAML's own, and those of its readers of dates, numbers and nested values
        raise InputError(f"override '{cut(name)}': the value is not YAML") from None
    for part in reversed(name.strip().split(".")):
        value = {part: value}
    return value


def name_of(override: str) -> str:
    """Return the field that an override sets, without the value, which may be a misplaced key."""
    return override.partition("=")[0].strip()


def deep_merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two mappings field by field; `above` wins.

    Mappings of different kinds are not merged: the upper one replaces the lower.
    """
    merged = dict(below)
    for key, value in above.items():
        known = merged.get(key)
        if isinstance(known, Mapping) and isinstance(value, Mapping) and same_kind(known, value):
            merged[key] = deep_merge(known, value)
        else:
            merged[key] = value
    return merged


def same_kind(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two mappings may be merged: none names a `kind`, or both the same."""
    return "kind" not in one or "kind" not in other or one["kind"] == other["kind"]


def require_no_secret(merged: Mapping[str, Any], layers: Sequence[Layer]) -> None:
    """Refuse settings with an address that holds a user, a password or a key: they are logged.

    Raises:
        InputError: one does.
    """
    if (field := address_with_secret(merged)) is not None:
        location = field.split(".")
        source = max(reversed(layers), key=lambda layer: layer.depth(location)).source
        raise InputError(
            f"{source}: field '{field}': holds a user, password or key; give those in the "
            "environment"
        )


def readable(error: ValidationError, layers: Sequence[Layer]) -> str:
    """Return all complaints of pydantic, one a line, each with its field and its source."""
    lines = []
    for complaint in error.errors():
        field = ".".join(str(part) for part in complaint["loc"]) or "settings"
        last = field.rpartition(".")[2]
        deepest = max(reversed(layers), key=lambda layer: layer.depth(complaint["loc"]))
        source = (deepest if deepest.depth(complaint["loc"]) else layers[0]).source
        if complaint["type"] == "extra_forbidden":
            remedy = KEY_REMEDY if is_secret_name(last) else "remove it or mend its name"
            lines.append(f"{source}: field '{field}': no such field; {remedy}")
            continue
        message = complaint["msg"].removeprefix("Value error, ")
        has_value = complaint["type"] != "missing" and complaint["loc"]
        given = f" (given: {_short(complaint['input'])})" if has_value else ""
        if is_secret_name(last.removesuffix("_env")) or secret_in(complaint["input"]) is not None:
            given = ""
        lines.append(f"{source}: field '{field}': {message}{given}")
    return masked("\n".join(lines))


def _short(value: Any) -> str:
    """Return the beginning of a value's text; endless YAML aliases are not written out."""
    shown = reprlib.Repr()
    shown.maxstring = shown.maxother = shown.maxlong = 1000
    text = shown.repr(value)
    return MASK if "@" in text else cut(text)  # an address without a scheme may begin with a user


def cut(text: str, longest: int = 60) -> str:
    """Return a text's beginning, masked first, so that no half of an address goes unmasked."""
    text = masked(text)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the fields of a YAML file.

    Raises:
        InputError: it is not readable as YAML, or holds no fields.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=OnceLoader)
    except Exception as error:  # as in parse_override, and errors of the file system
        raise InputError(f"{path}: not readable as YAML: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: must hold fields and values")
    return content
