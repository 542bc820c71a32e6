"""What looks like a control token in a text is text, whatever the tokenizer is made of."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from raft_core.engines.chat import encode_prompts, encode_text
from raft_core.engines.control_tokens import control_tokens
from raft_core.errors import InputError

LETTERS = [chr(n) for n in range(33, 127)]


def by_letters(special: bool) -> PreTrainedTokenizerFast:
    """Byte-level, as Llama's and Qwen's; DeepSeek's turns are tokens that are not special."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    plain = Tokenizer(models.BPE({letter: n for n, letter in enumerate(letters)}, []))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    names = ("<|User|>", "<|Assistant|>")
    plain.add_tokens([AddedToken(name, special=special, normalized=False) for name in names])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<|eos|>")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|User|>' if m.role == 'user' else '<|Assistant|>' }}"
        "{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|Assistant|>{% endif %}"
    )
    return tokenizer


def by_pieces() -> PreTrainedTokenizerFast:
    """Unigram: its vocabulary holds the end as one piece, and it begins texts with a blank."""
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("▁", -2.0), ("▁hello", -3.0), ("world", -3.0)]
    plain = Tokenizer(models.Unigram([*pieces, *((x, -6.0) for x in LETTERS)], unk_id=0))
    plain.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    plain.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
    return tokenizer


def with_lines() -> PreTrainedTokenizerFast:
    """As Gemma's, whose line ends are added tokens too; turns are made of a system's as well."""
    tokenizer = by_letters(False)
    plain = [AddedToken(text, special=False, normalized=False) for text in ("\n", "\n\n", "!")]
    turns = [AddedToken(f"<|{role}|>", special=False, normalized=False) for role in ("sys", "end")]
    tokenizer.add_tokens([*plain, *turns])
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|' + ('sys' if m.role == 'system' else 'User') + '|>\n' }}"
        "{{ m.content + '\n' }}{% endfor %}{% if add_generation_prompt %}<|end|>{% endif %}"
    )
    return tokenizer


def test_line_ends_that_are_tokens_stay_in_what_is_said() -> None:
    tokenizer = with_lines()
    text = "First line!\nsecond line\n\nthird <|User|>, <|sys|> and <|end|>"
    (odd,) = encode_prompts(tokenizer, [text])
    assert tokenizer.decode(odd) == f"<|User|>\n{text}\n<|end|>"
    assert tokenizer.decode(encode_text(tokenizer, text)) == text
    known = control_tokens(tokenizer).ids
    assert tokenizer.convert_ids_to_tokens([i for i in odd if i in known]) == [
        "<|User|>",
        "<|end|>",
    ]
    assert not known & set(encode_text(tokenizer, text))


def by_normalised_letters() -> PreTrainedTokenizerFast:
    """Some normalise a text before they look for the tokens that they know."""
    tokenizer = by_letters(False)
    tokenizer.backend_tokenizer.normalizer = normalizers.NFKC()
    tokenizer.add_tokens([AddedToken("<|Late|>", special=False, normalized=True)])
    tokenizer.chat_template = "{% for m in messages %}<|Late|>{{ m.content }}<|Late|>{% endfor %}"
    return tokenizer


FULL_WIDTH = "\uff1c\uff5cLate\uff5c\uff1e"


def test_control_token_that_normalising_makes_is_text() -> None:
    tokenizer = by_normalised_letters()
    known = control_tokens(tokenizer).ids
    text = f"hello {FULL_WIDTH} w\u00f6rld <|Late|>"
    assert known & set(tokenizer(text, add_special_tokens=False)["input_ids"])
    (prompt,) = encode_prompts(tokenizer, [text])
    assert len([i for i in prompt if i in known]) == 2  # the template's own
    assert not known & set(encode_text(tokenizer, text))
    assert tokenizer.decode(encode_text(tokenizer, text)) == "hello <|Late|> w\u00f6rld <|Late|>"


def test_control_token_that_lower_case_makes_is_text() -> None:
    tokenizer = by_letters(False)
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.add_tokens([AddedToken("<|over|>", special=True, normalized=True)])
    (over,) = tokenizer.convert_tokens_to_ids(["<|over|>"])
    for text in ("a<|over|>b", "a<|OVER|>b"):
        assert over in tokenizer(text, add_special_tokens=False)["input_ids"]
        assert over not in encode_text(tokenizer, text)


def test_thinking_tag_in_a_text_is_text() -> None:
    tokenizer = by_letters(False)
    tags = ("<think>", "</think>")
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in tags])
    tokenizer.chat_template += "{% if add_generation_prompt %}<think></think>{% endif %}"
    ids = set(tokenizer.convert_tokens_to_ids(tags))
    text = "say </think> and <think>"
    (prompt,) = encode_prompts(tokenizer, [text])
    assert [i for i in prompt if i in ids] == tokenizer.convert_tokens_to_ids(list(tags))
    assert not ids & set(encode_text(tokenizer, text))


def test_template_that_loops_for_ever_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raft_core.engines.control_tokens.TEMPLATE_SECONDS", 0.2)
    tokenizer = by_letters(False)
    tokenizer.chat_template = "{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3
    with pytest.raises(InputError, match="chat template does not end"):
        encode_prompts(tokenizer, ["hello"])


KINDS: dict[str, tuple[Callable[[], PreTrainedTokenizerFast], str]] = {
    "special turns": (lambda: by_letters(True), "<|Assistant|>"),
    "turns that are not special": (lambda: by_letters(False), "<|Assistant|>"),
    "end that is no turn": (lambda: by_letters(False), "<|eos|>"),
    "end that is a piece": (by_pieces, "</s>"),
}


@pytest.mark.parametrize("name", KINDS)
def test_control_token_in_a_text_is_text_in_prompts_and_targets(name: str) -> None:
    make, control = KINDS[name]
    tokenizer = make()
    known = control_tokens(tokenizer).ids
    assert tokenizer.convert_tokens_to_ids(control) in known
    text = f"hello {control}world"
    plain, odd = encode_prompts(tokenizer, ["hello world", text])
    assert [i for i in odd if i in known] == [i for i in plain if i in known]
    target = encode_text(tokenizer, text)
    assert not known & set(target)
    assert tokenizer.decode(target) == text
    assert control in tokenizer.decode([i for i in odd if i not in known])


@pytest.mark.parametrize("name", KINDS)
def test_text_without_a_control_token_is_encoded_as_ever(name: str) -> None:
    tokenizer = KINDS[name][0]()
    assert (
        encode_text(tokenizer, "hello world")
        == (tokenizer("hello world", add_special_tokens=False)["input_ids"])
    )


def test_prompt_and_target_read_the_same_text_alike() -> None:
    """A part after a control token begins no text of its own: no blank is put before it."""
    tokenizer = by_pieces()
    (prompt,) = encode_prompts(tokenizer, ["hello </s>world"])
    target = encode_text(tokenizer, "hello </s>world")
    assert prompt == [*target, tokenizer.eos_token_id]


def test_control_token_beside_all_private_signs_is_text() -> None:
    """Such signs stand in place of control tokens while a template is rendered."""
    tokenizer = by_letters(True)
    everything = "".join(map(chr, range(0xE000, 0xF900)))
    text = f"\ue000 <|User|>\ue0007\ue000 {everything}<|User|>"
    (ids,) = encode_prompts(tokenizer, [text])
    assert tokenizer.decode(ids) == f"<|User|>{text}<|Assistant|>"
    assert len(control_tokens(tokenizer).ids & set(ids)) == 2
