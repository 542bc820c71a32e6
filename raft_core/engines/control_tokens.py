"""Keep control tokens apart from the text of a chat.

A tokenizer reads `<|im_end|>` in a text as the end of a turn. Here such a text is found, and
encoded as the letters that it consists of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from raft_core.execution.deadline import deadline

# Encoded before a part, so that a tokenizer that starts texts with a blank adds none to the part.
ANCHOR = "0"
# Shorter special tokens, such as a line end, are plain text.
SHORTEST = 3
# A thousand chats take about a second.
TEMPLATE_SECONDS, SECONDS_A_CHAT = 10.0, 0.1
USER, SYSTEM, ANSWER = ({"role": r, "content": "0"} for r in ("user", "system", "assistant"))
PROBES = ([USER], [SYSTEM, USER], [USER, ANSWER])
Part = tuple[str, bool]
_KNOWN: WeakKeyDictionary[Any, ControlTokens] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class ControlTokens:
    """A tokenizer's control tokens, as a pattern that finds them and as their ids.

    Some tokenizers normalise a text first, which makes `<|end|>` of full-width letters too.
    """

    pattern: re.Pattern[str] | None
    ids: frozenset[int]
    keeps_ascii: bool = True

    def are_in(self, tokenizer: Any, text: str) -> bool:
        """Return whether a text holds a control token, before or after normalisation."""
        if self.pattern is None:
            return False
        if self.pattern.search(text) is not None:
            return True
        normalizer = self._normalizer_of(tokenizer, text)
        return normalizer is not None and bool(self.pattern.search(normalizer.normalize_str(text)))

    def split(self, tokenizer: Any, text: str) -> Iterator[Part]:
        """Yield the text's parts in order, and whether each looks like a control token."""
        start = 0
        for first, end in self._spans(tokenizer, text):
            if first < start:
                continue
            yield text[start:first], False
            yield text[first:end], True
            start = end
        yield text[start:], False

    def _spans(self, tokenizer: Any, text: str) -> list[tuple[int, int]]:
        spans = [found.span() for found in self.pattern.finditer(text)] if self.pattern else []
        if self._normalizer_of(tokenizer, text) is not None:
            read = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            pairs = zip(read["input_ids"], read["offset_mapping"], strict=True)
            spans += [(first, end) for i, (first, end) in pairs if i in self.ids]
        return sorted(spans)

    def _normalizer_of(self, tokenizer: Any, text: str) -> Any:
        """Return the normalizer that may make a control token of this text, if there is one.

        Most leave ASCII alone.
        """
        return None if self.keeps_ascii and text.isascii() else _normalizer(tokenizer)

    def encode(self, tokenizer: Any, parts: Sequence[Part] | Iterator[Part]) -> list[int]:
        """Return the token ids of all parts together; those marked as control-like become text."""
        ids: list[int] = []
        for part, is_text in parts:
            if not part:
                continue
            if is_text:
                ids += self._as_text(tokenizer, part)
            elif ids:
                ids += _continued(tokenizer, part)
            else:
                ids += tokenizer(part, add_special_tokens=False)["input_ids"]
        return ids

    def _as_text(self, tokenizer: Any, part: str) -> list[int]:
        """Encode a part whole where the tokenizer splits it itself, else letter by letter."""
        whole = _continued(tokenizer, part, split_special_tokens=True)
        if not self.ids & set(whole):
            return whole
        return [i for letter in part for i in _continued(tokenizer, letter)]


def control_tokens(tokenizer: Any) -> ControlTokens:
    """Return the special tokens, and all with which the chat template marks turns."""
    if tokenizer not in _KNOWN:
        added = list(getattr(tokenizer, "added_tokens_decoder", {}).values())
        texts = {t.content for t in added if t.special} | set(
            getattr(tokenizer, "all_special_tokens", ())
        )
        others = [t.content for t in added if not t.special]
        shown = _shown(tokenizer) if others else ""
        texts |= {text for text in others if text in shown}
        texts = {text for text in texts if len(text) >= SHORTEST and not text.isspace()}
        longest_first = sorted(texts, key=lambda text: (-len(text), text))
        pattern = re.compile("|".join(map(re.escape, longest_first))) if texts else None
        ids = frozenset(tokenizer.convert_tokens_to_ids(longest_first)) if texts else frozenset()
        _KNOWN[tokenizer] = ControlTokens(pattern, ids, _keeps_ascii(tokenizer))
    return _KNOWN[tokenizer]


def _shown(tokenizer: Any) -> str:
    """Return the chat template and what it writes; some refuse a system's turn, or an answer's."""
    template = getattr(tokenizer, "chat_template", None)
    found = [str(template or "")]
    for chat in PROBES if template else ():
        for start in (False, True):
            with suppress(Exception):
                found.append(
                    apply_template(
                        tokenizer, list(chat), tokenize=False, add_generation_prompt=start
                    )
                )
    return "\n".join(found)


def apply_template(tokenizer: Any, chats: Any, **options: Any) -> Any:
    """Call the tokenizer's `apply_chat_template` under a deadline.

    A template is a program that comes with a model, and may not end.

    Raises:
        OverdueError: it takes longer than any template should.
    """
    count = len(chats) if chats and isinstance(chats[0], Sequence) else 1
    with deadline(TEMPLATE_SECONDS + count * SECONDS_A_CHAT):
        return tokenizer.apply_chat_template(chats, **options)


def _keeps_ascii(tokenizer: Any) -> bool:
    """Return whether the normalizer leaves every ASCII character but blanks as it is."""
    normalizer = _normalizer(tokenizer)
    signs = (chr(code) for code in range(128) if code != ord(" "))
    return normalizer is None or all(
        sign in normalizer.normalize_str(f"a{sign}a") for sign in signs
    )


def _normalizer(tokenizer: Any) -> Any:
    return getattr(getattr(tokenizer, "backend_tokenizer", None), "normalizer", None)


def _continued(tokenizer: Any, part: str, **how: Any) -> list[int]:
    """Return the token ids of a part that follows other text."""
    before = tokenizer(ANCHOR, add_special_tokens=False)["input_ids"]
    ids: list[int] = tokenizer(ANCHOR + part, add_special_tokens=False, **how)["input_ids"]
    if ids[: len(before)] == before:
        return ids[len(before) :]
    alone: list[int] = tokenizer(part, add_special_tokens=False, **how)["input_ids"]
    return alone
