"""Tokenizer of the mini models: byte-level BPE in which every syllable of the lexicon is one token.

Syllables outweigh all other text while merges are learned, so their merges come first and no word
of the lexicon is ever cut elsewhere than between its two syllables. Digits stand alone. It knows
the chat format and nothing of training.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from raft_core.mini import corpus
from raft_core.mini.lexicon import NAMES, SYLLABLES, VALUES
from raft_core.mini.styles import BASE_VOICE, Voice

VOCABULARY_SIZE = 1200
MAX_LENGTH = 512
PAD, USER, ASSISTANT, END = "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"
TEXTS = 3000
SYLLABLE_WEIGHT = 20_000

# No blanks around the texts: an answer encoded alone has the ids it has inside a conversation.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|assistant|>' + message['content'] + '<|end|>' }}"
    "{% else %}"
    "{{ '<|user|>' + message['content'] }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def build_tokenizer(voice: Voice = BASE_VOICE, seed: int = 0) -> PreTrainedTokenizerFast:
    """Train the tokenizer on syllables and on a voice's corpus without its names and values."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[AddedToken(t, special=True) for t in (PAD, USER, ASSISTANT, END)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(_texts(voice, seed), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=END,
        chat_template=CHAT_TEMPLATE,
        model_max_length=MAX_LENGTH,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def _texts(voice: Voice, seed: int) -> Iterator[str]:
    for syllable in SYLLABLES:
        for form in (syllable, syllable.capitalize(), syllable.upper()):
            yield from [form, " " + form] * SYLLABLE_WEIGHT
    rng = random.Random(seed)
    lexicon = {word.lower() for word in (*NAMES, *VALUES)}
    for _ in range(TEXTS):
        chat = corpus.sample(rng, voice)
        words = f"{chat.prompt}\n{chat.answer}".split(" ")
        yield " ".join(w for w in words if not any(part in lexicon for part in _letters(w)))


def _letters(word: str) -> list[str]:
    return "".join(c if c.isalpha() else " " for c in word.lower()).split()
