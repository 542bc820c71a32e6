"""Turn user messages into the token ids that a chat model answers, the same way everywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from raft_core.config.base import ModelRef
from raft_core.engines.control_tokens import ControlTokens, apply_template, control_tokens
from raft_core.errors import InputError, first_line
from raft_core.execution.deadline import OverdueError

# The date for templates that print it. With the real date, a row's prompt would change overnight: a
# resumed training would continue with other prompts, and two models that are compared would have
# read different ones.
TEMPLATE_DAY = datetime(2026, 1, 1)


def load_tokenizer(model: ModelRef) -> Any:
    """Load the model's tokenizer, padding on the left.

    Raises:
        InputError: it has no chat template, or cannot be loaded.
    """
    from transformers import AutoTokenizer

    with loading(model):
        tokenizer = AutoTokenizer.from_pretrained(
            model.resolve(),
            revision=model.revision,
            padding_side="left",
            trust_remote_code=False,
        )
    if not tokenizer.chat_template:
        raise InputError(
            f"model '{model.path}' has no chat template; "
            "RAFT needs an instruction-tuned model whose tokenizer carries one"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


@contextmanager
def loading(model: ModelRef) -> Iterator[None]:
    """Turn a library's complaint about a model that it cannot load into one error.

    Raises:
        InputError: with the model and the library's first line.
    """
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, SafetensorError, StrictDataclassError) as error:
        said: object = error
        if isinstance(error, ValidationError):  # its first line only counts what is wrong
            said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InputError(f"model '{model.path}' cannot be loaded: {first_line(said)}") from None


def require_vocabulary(tokenizer: Any, network: Any, model: ModelRef) -> None:
    """Require a row in the model's embeddings for every token of the tokenizer.

    Raises:
        InputError: the tokenizer is another model's.
    """
    rows, largest = (
        network.get_input_embeddings().weight.shape[0],
        max(tokenizer.get_vocab().values(), default=0),
    )
    if largest >= rows:
        raise InputError(
            f"model '{model.path}': its tokenizer knows token {largest}, its weights only {rows} "
            "tokens; the tokenizer is another model's"
        )


def encode_prompt(tokenizer: Any, prompt: str, enable_thinking: bool = False) -> list[int]:
    """Return the token ids of one user message, up to and including the assistant's start."""
    return encode_prompts(tokenizer, [prompt], enable_thinking)[0]


def encode_prompts(
    tokenizer: Any, prompts: Sequence[str], enable_thinking: bool = False
) -> list[list[int]]:
    """Encode many messages as `encode_prompt` does, each alone, in one call of the tokenizer."""
    conversations = [[{"role": "user", "content": prompt}] for prompt in prompts]
    return encode_chats(
        tokenizer, conversations, add_generation_prompt=True, enable_thinking=enable_thinking
    )


def encode_chats(
    tokenizer: Any, conversations: Sequence[Sequence[dict[str, str]]], **options: Any
) -> list[list[int]]:
    """Return the token ids of whole conversations, the same on every day.

    Text in a turn that looks like a control token is encoded as text; it never ends or starts a
    turn.
    """
    options |= {"strftime_now": TEMPLATE_DAY.strftime}
    control = control_tokens(tokenizer)
    said = ("".join(turn["content"] for turn in chat) for chat in conversations)
    odd = [control.are_in(tokenizer, text) for text in said]
    plain = [chat for chat, is_odd in zip(conversations, odd, strict=True) if not is_odd]
    encoded: list[list[int]] = []
    if plain:
        found = _rendered(tokenizer, plain, return_dict=True, **options)["input_ids"]
        encoded = [list(ids) for ids in found]
    in_order = iter(encoded)
    return [
        _encode_odd(tokenizer, chat, control, options) if is_odd else next(in_order)
        for chat, is_odd in zip(conversations, odd, strict=True)
    ]


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Return a text's token ids, in which nothing is a control token, whatever it looks like."""
    control = control_tokens(tokenizer)
    if not control.are_in(tokenizer, text):
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids
    return control.encode(tokenizer, control.split(tokenizer, text))


def _rendered(tokenizer: Any, chats: Any, **options: Any) -> Any:
    try:
        return apply_template(tokenizer, chats, **options)
    except OverdueError as error:
        raise InputError(
            f"model '{tokenizer.name_or_path}': its chat template does not end ({error}); mend it, "
            "or take another model"
        ) from None


def _encode_odd(
    tokenizer: Any, chat: Sequence[dict[str, str]], control: ControlTokens, options: dict[str, Any]
) -> list[int]:
    """Render the template around marks, and put the encoded texts in their place."""
    texts: list[str] = []
    everything = "".join(turn["content"] for turn in chat)
    mark = _mark_beside(everything)

    def marked(part: str, is_control: bool) -> str:
        if not is_control:
            return part
        texts.append(part)
        return f"{mark}{len(texts) - 1}{mark}"

    turns = [
        turn | {"content": "".join(marked(*p) for p in control.split(tokenizer, turn["content"]))}
        for turn in chat
    ]
    rendered = _rendered(tokenizer, turns, tokenize=False, **options)
    parts = re.split(f"{mark}(\\d+){mark}", rendered)
    return control.encode(
        tokenizer,
        [
            (texts[int(part)], True) if place % 2 else (part, False)
            for place, part in enumerate(parts)
        ],
    )


def _mark_beside(text: str) -> str:
    """Return a run of a private-use character that the text does not contain."""
    sign = "\ue000"
    while sign in text:
        sign += "\ue000"
    return sign


def stop_token_ids(tokenizer: Any, generation_config: Any) -> list[int]:
    """Return every id that ends an answer; the generation config may know more of them."""
    configured = getattr(generation_config, "eos_token_id", None)
    found = configured if isinstance(configured, list) else [configured]
    return sorted({i for i in [*found, tokenizer.eos_token_id] if i is not None})
