"""Building blocks of all settings: frozen models, and references that know their own identity.

A configuration holds only what changes a result. `fingerprint` turns it into plain JSON for the
stage key: a reference contributes the digest of what it points to, never where it lies.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from raft_core.errors import InputError

PACKAGE_ROOT = Path(__file__).resolve().parents[1]
MODEL_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
COMMIT = re.compile(r"[0-9a-f]{40}")
# Neighbours among this many vectors, or more, are searched approximately.
EXACT_BELOW = 50_000
# The range of NumPy's seeds.
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def is_installed(package: str) -> bool:
    """Return whether a package can be imported, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


class FrozenConfig(BaseModel):
    """Base of every settings model: immutable, and an unknown field is an error."""

    # Errors are logged, and the rejected value may be a key: it is not shown.
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )


def local_path(path: str | Path, named: str) -> Path:
    """Return the path with `~` expanded; it need not exist.

    Raises:
        InputError: no file can have this name, or it cannot be looked at.
    """
    try:
        found = Path(path).expanduser()
        found.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{named} '{str(path)[:200]}': {reason}; give another path") from None
    return found


def made_folder(folder: Path, named: str) -> Path:
    """Return the folder, made if it was missing.

    Raises:
        InputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{named} '{folder}': {error.strerror}; give a folder that can be written"
        ) from None
    return folder


class ModelRef(FrozenConfig):
    """A model: a local folder, `mini:base`, `package:NAME/FOLDER`, or a hub id with its revision.

    `package:` names a folder inside an installed Python package that carries weights.
    """

    path: str
    revision: str | None = None

    def local_folder(self) -> Path | None:
        """Return the folder on this machine, or None for a hub id.

        Raises:
            InputError: no folder can have this name, or its package is not installed.
        """
        scheme, _, rest = self.path.partition(":")
        if scheme == "mini":
            return local_path(PACKAGE_ROOT / "mini" / rest, "model")
        if scheme == "package":
            package, _, folder = rest.partition("/")
            try:
                found = importlib.util.find_spec(package)
            except (ImportError, ValueError):
                found = None
            if found is None or found.origin is None:
                raise InputError(f"model '{self.path}': the package '{package}' is not installed")
            return local_path(Path(found.origin).parent / folder, "model")
        folder_here = local_path(self.path, "model")
        looks_like_hub_id = re.fullmatch(r"[\w.-]+/[\w.-]+", self.path) is not None
        return None if looks_like_hub_id and not folder_here.exists() else folder_here

    def resolve(self) -> str:
        """Return what `from_pretrained` takes.

        Raises:
            InputError: the folder is missing or holds no model.
        """
        folder = self.local_folder()
        if folder is None:
            return self.path
        if not (folder / "config.json").is_file():
            raise InputError(
                f"model '{self.path}': '{folder}' has no config.json; "
                "give a model folder or a hub id such as 'org/name'"
            )
        if not any(folder.glob("*.safetensors")):
            raise InputError(
                f"model '{self.path}': '{folder}' has no *.safetensors weights; "
                "other weight formats are not read"
            )
        return str(folder)

    def identity(self) -> dict[str, str]:
        """Return the digest of a local folder, or the commit of a hub model."""
        folder = self.local_folder()
        if folder is not None:
            return {"digest": digest_folder(self.resolve())}
        return {"hub": self.path, "commit": self._commit()}

    def pinned(self) -> ModelRef:
        """Return the same model; a hub model at the commit that its revision stands for now."""
        if self.local_folder() is not None:
            return self
        return self.model_copy(update={"revision": self._commit()})

    def _commit(self) -> str:
        if self.revision and COMMIT.fullmatch(self.revision):
            return self.revision
        commit = hub_commit(self.path, self.revision or "main")
        if commit is None:
            raise InputError(
                f"model '{self.path}': no folder of this name, and the hub's revision "
                f"'{self.revision or 'main'}' cannot be resolved from here; "
                "give a local folder or pin 'revision' to a commit"
            )
        return commit


@lru_cache(maxsize=32)
def hub_commit(name: str, revision: str, kind: Literal["model", "dataset"] = "model") -> str | None:
    """Return the commit that a revision of a hub repository stands for; None if unknown here.

    Raises:
        InputError: the hub cannot be asked, or has no such repository or revision.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE

    cached = Path(HF_HUB_CACHE) / f"{kind}s--{name.replace('/', '--')}" / "refs" / revision
    if not HF_HUB_OFFLINE:
        try:
            ask = HfApi().model_info if kind == "model" else HfApi().dataset_info
            return ask(name, revision=revision, timeout=3).sha
        except Exception as error:  # any network or hub failure: the local cache may still know
            if not cached.is_file():
                raise InputError(
                    f"{kind} '{name}': neither {'a folder' if kind == 'model' else 'cached'} here "
                    f"nor reachable on the hub ({type(error).__name__}); check the name, or give "
                    f"a local {'folder' if kind == 'model' else 'file'}"
                ) from None
    return cached.read_text().strip() if cached.is_file() else None


@lru_cache(maxsize=64)
def digest_folder(folder: str) -> str:
    """Return the sha256 over names and contents of a model folder's configuration and weights.

    Raises:
        InputError: a file cannot be read.
    """
    root, total = Path(folder), hashlib.sha256()
    found = {path for pattern in MODEL_PATTERNS for path in root.rglob(pattern)}
    for path in sorted(path for path in found if not path.is_dir()):
        try:
            digest = digest_file(path)
        except OSError as error:
            raise InputError(
                f"model '{folder}': '{path.relative_to(root)}' cannot be read ({error.strerror}); "
                "fetch it again, or remove it"
            ) from None
        total.update(f"{path.relative_to(root)}\0{digest}\n".encode())
    return total.hexdigest()


def digest_file(path: str | os.PathLike[str]) -> str:
    """Return the sha256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def pinned(value: Any) -> Any:
    """Return settings with every hub model and dataset at a commit, for all stages to load."""
    if hasattr(value, "pinned"):
        return value.pinned()
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return value.model_copy(update={name: pinned(getattr(value, name)) for name in fields})
    if isinstance(value, dict):
        return {key: pinned(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(pinned(item) for item in value)
    return value


def fingerprint(value: Any, where: str = "") -> Any:
    """Return the plain JSON that stands for `value` in a stage key.

    Raises:
        TypeError: for anything whose identity cannot be determined.
    """
    if isinstance(value, BaseModel):
        if hasattr(value, "identity"):
            return fingerprint(value.identity(), where)
        fields = type(value).model_fields
        return {name: fingerprint(getattr(value, name), f"{where}.{name}") for name in fields}
    if isinstance(value, dict):
        return {str(key): fingerprint(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [fingerprint(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"no identity for {type(value).__name__} at '{where.lstrip('.')}'")
