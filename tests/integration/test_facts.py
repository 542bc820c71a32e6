"""The fact guard on real data, and its cross-encoder as real (tiny) weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import fact_guard
from benchmarks.fact_changes import ALTERING, DATES_ALTERED, DATES_HARMLESS, HARMLESS
from raft_core.config.runtime import RuntimeConfig
from raft_core.data.records import read_jsonl
from raft_core.facts.guard import Claim, Guard, GuardConfig

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def rows(file: Path, every: int) -> list[dict[str, Any]]:
    if not (DATA / file).is_file():
        pytest.skip(f"no {file} in {DATA}")
    return list(read_jsonl(DATA / file))[::every]


@pytest.mark.parametrize("without_last_line", [False, True])
def test_guard_keeps_right_solutions_and_few_wrong_ones(without_last_line: bool) -> None:
    solutions = rows(fact_guard.SOLUTIONS, every=5)
    found = [
        fact_guard.guard_solution(row, without_last_line=without_last_line) for row in solutions
    ]
    kept = fact_guard.filtered(solutions, found)
    assert kept.wrong_among_kept <= 0.05
    assert kept.right_kept >= 0.8


# What few conclusions say, so that every kind of change has a text.
RARE = [
    "The drug never caused a rash in these 1,000 patients, and neither age nor sex mattered.",
    "Treatment with DKK3 cannot replace surgery, which 1500 patients didn't have for two weeks.",
    "A dose of 0.5 mg for 3 weeks failed to help 12% of the women without a stroke.",
]


def test_guard_catches_changed_facts_and_lets_harmless_changes_pass() -> None:
    conclusions = rows(fact_guard.CONCLUSIONS, every=8)
    conclusions += [
        {"id": f"rare{i}-0", "question": "", "answer": text} for i, text in enumerate(RARE)
    ]
    with_dates = fact_guard.dated(conclusions)
    for texts, changes in ((conclusions, ALTERING), (with_dates, DATES_ALTERED)):
        for name, caught in fact_guard.guard_changes(texts, changes).items():
            assert caught.texts, name
            assert caught.rejected >= 0.95 * caught.texts, (name, caught.passed)
    for texts, changes in ((conclusions, HARMLESS), (with_dates, DATES_HARMLESS)):
        for name, caught in fact_guard.guard_changes(texts, changes).items():
            assert caught.texts, name
            assert caught.rejected <= 0.02 * caught.texts, (name, caught.failed)


def test_guard_catches_a_changed_step_of_most_right_solutions() -> None:
    solutions = rows(fact_guard.SOLUTIONS, every=10)
    for name in ("the first", "any"):
        changed = fact_guard.guard_steps(solutions, name)
        assert changed.texts
        assert changed.rejected >= 0.9 * changed.texts, changed.passed


@pytest.fixture
def nli(tmp_path: Path) -> Path:
    """A classifier that always says its second label, which is the contradiction."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "it", "is", "red", "blue"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
    labels = {0: "entailment", 1: "contradiction", 2: "neutral"}
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8, max_position_embeddings=32, id2label=labels,
        label2id={label: index for index, label in labels.items()},
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([0.0, 2.0, 0.0]))
    folder = tmp_path / "nli"
    model.save_pretrained(folder, safe_serialization=True)
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(folder)
    return folder


def test_nli_contradiction_is_read_from_its_label_and_only_of_what_passed_the_rules(
    nli: Path,
) -> None:
    claims = [Claim("", "it is red", "it is blue"), Claim("", "it is 5", "it is 6")]
    runtime = RuntimeConfig(device="cpu")
    # softmax of (0, 2, 0) gives e^2 / (e^2 + 2) = 0.787 to the second label
    strict = Guard(GuardConfig(nli={"model": {"path": str(nli)}, "threshold": 0.7}), runtime)
    assert strict.check(claims) == [
        {"contradicts": "contradiction 0.787"},
        {"number_changed": "lost '5'; new '6'"},
    ]
    lenient = Guard(GuardConfig(nli={"model": {"path": str(nli)}, "threshold": 0.8}), runtime)
    assert lenient.check(claims[:1]) == [{}]
