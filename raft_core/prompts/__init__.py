"""Versioned prompt texts; a file's text enters the key of every stage that uses it.

`{question}`-style placeholders are filled by literal replacement, so that braces in the data are
never taken for placeholders. `{fence}` is filled by the prompt itself, with a code that none of the
texts holds: markers that carry it can be closed by no text between them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, model_validator

from raft_core.config.base import FrozenConfig, local_path
from raft_core.errors import InputError

FOLDER = Path(__file__).parent
PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
FENCE = "fence"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A named text with placeholders."""

    name: str
    text: str

    @property
    def fields(self) -> frozenset[str]:
        """The placeholders that have to be given."""
        return frozenset(PLACEHOLDER.findall(self.text)) - {FENCE}

    def render(self, **values: str) -> str:
        """Return the text with every placeholder replaced.

        Raises:
            KeyError: a value is missing or unknown.
        """
        if unknown := values.keys() - self.fields:
            raise KeyError(f"prompt '{self.name}' has no placeholder {sorted(unknown)}")
        values[FENCE] = fence(values[name] for name in sorted(values))
        return PLACEHOLDER.sub(lambda match: values[match.group(1)], self.text)


def fence(texts: Iterable[str]) -> str:
    """Return a code that occurs in none of the texts, and is the same for the same texts."""
    whole = "\0".join(texts)
    code = hashlib.sha256(whole.encode(errors="surrogatepass")).hexdigest()[:16]
    while code in whole:
        code = hashlib.sha256(code.encode()).hexdigest()[:16]
    return code


@lru_cache(maxsize=64)
def load_prompt(name: str) -> Prompt:
    """Read the shipped prompt `name` (`rewrite.v1`), or the text file at that path.

    Raises:
        InputError: there is no such prompt, or it cannot be read.
    """
    shipped = FOLDER / f"{name}.txt"
    path = local_path(name, "prompt")
    path = shipped if local_path(shipped, "prompt").is_file() else path
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.txt")))
        raise InputError(f"prompt '{name}': no such prompt or file; shipped are {known}")
    try:
        return Prompt(name, path.read_text(encoding="utf-8").removesuffix("\n"))
    except UnicodeDecodeError as error:
        raise InputError(f"prompt '{name}': not UTF-8 ({error.reason}); convert the file") from None
    except OSError as error:
        raise InputError(
            f"prompt '{name}': {error.strerror}; give a file that can be read"
        ) from None


class PromptRef(FrozenConfig):
    """A prompt by name; its identity is its text."""

    name: str

    @model_validator(mode="before")
    @classmethod
    def _accept_plain_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    def load(self) -> Prompt:
        """Read the prompt."""
        return load_prompt(self.name)

    def identity(self) -> dict[str, str]:
        """Return the prompt's text."""
        return {"text": self.load().text}


def with_placeholders(*fields: str) -> AfterValidator:
    """Restrict a `PromptRef` to prompts with exactly these placeholders."""

    def check(prompt: PromptRef) -> PromptRef:
        has, needs = sorted(prompt.load().fields), sorted(fields)
        if has != needs:
            raise ValueError(f"prompt '{prompt.name}' has the placeholders {has}, not {needs}")
        return prompt

    return AfterValidator(check)


RewritePrompt = Annotated[PromptRef, with_placeholders("question", "reference")]
FusePrompt = Annotated[PromptRef, with_placeholders("question", "reference", "rewrite")]
TeacherPrompt = Annotated[PromptRef, with_placeholders("question", "reference")]
JudgePrompt = Annotated[PromptRef, with_placeholders("question", "reference", "response")]
AskPrompt = Annotated[PromptRef, with_placeholders("count", "title", "passage")]
VerdictPrompt = Annotated[PromptRef, with_placeholders("title", "passage", "question", "answer")]
GradePrompt = Annotated[PromptRef, with_placeholders("question", "reference", "fused")]
