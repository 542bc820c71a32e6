"""Identities: what points somewhere is known by its content, and the unknown is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from raft_core.config.base import PACKAGE_ROOT, FrozenConfig, ModelRef, fingerprint
from raft_core.errors import InputError


class Inner(FrozenConfig):
    number: float = 1.0


class Outer(FrozenConfig):
    inner: Inner = Inner()
    names: tuple[str, ...] = ("a",)


def test_frozen_config_assignment_and_unknown_field_refused() -> None:
    with pytest.raises(ValidationError):
        Inner().number = 2
    with pytest.raises(ValidationError, match="extra"):
        Inner(nmber=2)


def test_frozen_config_not_a_number_refused() -> None:
    with pytest.raises(ValidationError):
        Inner(number=float("nan"))


def test_fingerprint_nested_models_plain_json() -> None:
    assert fingerprint(Outer()) == {"inner": {"number": 1.0}, "names": ["a"]}


def test_fingerprint_what_has_no_identity_error_names_the_place() -> None:
    with pytest.raises(TypeError, match=r"Path at 'inner\.0'|Path at 'inner\[0\]'"):
        fingerprint({"inner": [Path("x")]})


def test_model_identity_same_content_elsewhere_same(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE_ROOT / "mini" / "base", tmp_path / "copy")
    copy = ModelRef(path=str(tmp_path / "copy"))
    assert copy.identity() == ModelRef(path="mini:base").identity()


def test_model_identity_other_weights_differ(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE_ROOT / "mini" / "base", tmp_path / "copy")
    weights = tmp_path / "copy" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    copy = ModelRef(path=str(tmp_path / "copy"))
    assert copy.identity() != ModelRef(path="mini:base").identity()


def test_model_resolve_folder_without_config_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.json"):
        ModelRef(path=str(tmp_path)).resolve()


def test_model_resolve_pickled_weights_alone_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match="safetensors"):
        ModelRef(path=str(tmp_path)).resolve()


def test_model_package_that_is_not_installed_error() -> None:
    with pytest.raises(InputError, match="'no_such_package' is not installed"):
        ModelRef(path="package:no_such_package/model").resolve()


def test_model_pinned_hub_commit_needs_no_network() -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert ModelRef(path="org/name", revision=commit).identity()["commit"] == commit
