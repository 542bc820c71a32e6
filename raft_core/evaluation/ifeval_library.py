"""IFEval's checkers as lm-evaluation-harness keeps them, imported without a download.

Importing this module imports nltk and langdetect (seconds); `instructions.py` does so when it first
checks an answer. The harness fetches nltk's sentence model `punkt_tab` when it is imported. Here
that model is used where it is asked for and installed; by default sentences and words are split by
nltk's own rules with a list of abbreviations.
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

from raft_core.errors import InputError

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

SENTENCES, WORDS = instructions_util._get_sentence_tokenizer, nltk


def split_by(how: str) -> None:
    """Let the checkers split sentences and words by `rules`, or by the model `punkt_tab`.

    Raises:
        InputError: the model is not installed.
    """
    if how == "punkt_tab":
        require_sentence_model()
        instructions_util._get_sentence_tokenizer, instructions_util.nltk = SENTENCES, WORDS
        return
    parameters = PunktParameters()
    parameters.abbrev_types = set(ABBREVIATIONS)
    sentences, words = PunktSentenceTokenizer(parameters), NLTKWordTokenizer()

    def word_tokenize(text: str) -> list[str]:
        return [word for part in sentences.tokenize(text) for word in words.tokenize(part)]

    instructions_util._get_sentence_tokenizer = lambda: sentences
    instructions_util.nltk = SimpleNamespace(tokenize=nltk.tokenize, word_tokenize=word_tokenize)


def require_sentence_model() -> None:
    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        raise InputError(
            "evaluate.benchmarks: sentences are to be split by nltk's punkt_tab, which is not "
            "installed: call `python -m nltk.downloader punkt_tab`, or set sentences to 'rules'"
        ) from None


split_by("rules")


def follows(
    instruction_id: str, kwargs: dict[str, Any], prompt: str, response: str, *, loose: bool
) -> bool:
    """The harness's verdict on one instruction of a prompt."""
    check = test_instruction_following_loose if loose else test_instruction_following_strict
    example = InputExample(0, [instruction_id], prompt, [kwargs])
    return bool(check(example, response).follow_instruction_list[0])


__all__ = ["INSTRUCTION_DICT", "follows", "split_by"]
