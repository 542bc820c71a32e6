"""IFEval's checkers as lm-evaluation-harness keeps them, imported without a download.

Importing this module imports nltk and langdetect (seconds); `instructions.py` does so when it first
checks an answer. The harness fetches nltk's sentence model `punkt_tab` when it is imported. Here
that model is used where it is installed, and otherwise sentences and words are split by nltk's own
rules with a list of abbreviations; `SENTENCE_SPLITTER` says which.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import langdetect
import nltk
from nltk.tokenize import NLTKWordTokenizer
from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

ABBREVIATIONS = frozenset(
    "a.m p.m e.g i.e etc vs dr mr mrs ms prof st jr sr rev hon gen col capt lt sgt gov sen rep "
    "inc ltd co corp dept est approx no vol fig al u.s u.k ph.d jan feb mar apr jun jul aug sep "
    "sept oct nov dec".split()
)


@contextmanager
def without_download() -> Iterator[None]:
    """Nothing is fetched: the harness does so in the first process of a machine alone."""
    rank = os.environ.get("LOCAL_RANK")
    os.environ["LOCAL_RANK"] = "1"
    try:
        yield
    finally:
        del os.environ["LOCAL_RANK"]
        if rank is not None:
            os.environ["LOCAL_RANK"] = rank


with without_download():
    from lm_eval.tasks.ifeval import instructions_util
    from lm_eval.tasks.ifeval.instructions_registry import INSTRUCTION_DICT
    from lm_eval.tasks.ifeval.utils import (
        InputExample,
        test_instruction_following_loose,
        test_instruction_following_strict,
    )

# langdetect draws at random where it is unsure.
langdetect.DetectorFactory.seed = 0


def has_sentence_model() -> bool:
    """Whether nltk finds `punkt_tab` (`python -m nltk.downloader punkt_tab` installs it)."""
    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        return False
    return True


def split_by_rules() -> None:
    """Let the checkers split sentences and words without the sentence model."""
    parameters = PunktParameters()
    parameters.abbrev_types = set(ABBREVIATIONS)
    sentences, words = PunktSentenceTokenizer(parameters), NLTKWordTokenizer()

    def word_tokenize(text: str) -> list[str]:
        return [word for part in sentences.tokenize(text) for word in words.tokenize(part)]

    instructions_util._get_sentence_tokenizer = lambda: sentences
    instructions_util.nltk = SimpleNamespace(tokenize=nltk.tokenize, word_tokenize=word_tokenize)


SENTENCE_SPLITTER = "punkt_tab"
if not has_sentence_model():
    split_by_rules()
    SENTENCE_SPLITTER = "rules and abbreviations (punkt_tab is not installed)"


def follows(
    instruction_id: str, kwargs: dict[str, Any], prompt: str, response: str, *, loose: bool
) -> bool:
    """The harness's verdict on one instruction of a prompt."""
    check = test_instruction_following_loose if loose else test_instruction_following_strict
    example = InputExample(0, [instruction_id], prompt, [kwargs])
    return bool(check(example, response).follow_instruction_list[0])


__all__ = ["INSTRUCTION_DICT", "SENTENCE_SPLITTER", "follows"]
