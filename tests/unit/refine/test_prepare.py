"""Splits, duplicates and decontamination: every row kept or rejected with a reason."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_core.config.base import fingerprint
from raft_core.config.runtime import RuntimeConfig
from raft_core.data.neighbours import cosines
from raft_core.data.records import Example
from raft_core.data.sources import DataSource
from raft_core.engines.base import EmbedderConfig
from raft_core.errors import InputError
from raft_core.execution.progress import Progress
from raft_core.execution.stage import StageRun
from raft_core.refine.prepare import (
    DomainConfig,
    PrepareConfig,
    PrepareStage,
    comparable_words,
    drop_exact_duplicates,
    drop_near_duplicates,
    load_examples,
    require_splits,
    run,
    split_by_hash,
)

CONFIG = PrepareConfig(validation_fraction=0.1, test_fraction=0.2)


def domain(path: Path, rows: list[dict[str, Any]], limit: int | None = None) -> DomainConfig:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return DomainConfig(name="d", data=DataSource(path=str(path)), limit=limit)


def rows(count: int) -> list[dict[str, Any]]:
    return [{"id": i, "question": f"q{i}", "answer": f"a{i}"} for i in range(count)]


class WordVectors:
    """Unit vectors of word counts: equal words, cosine 1."""

    def embed(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        words = sorted({word for text in texts for word in text.split()})
        counts = np.array([[t.split().count(w) for w in words] for t in texts], dtype=np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def test_split_shares_near_the_fractions() -> None:
    splits = [split_by_hash(str(i), CONFIG) for i in range(5000)]
    assert abs(splits.count("test") / 5000 - 0.2) < 0.02
    assert abs(splits.count("validation") / 5000 - 0.1) < 0.02


@given(st.text(), st.floats(0, 0.3), st.floats(0, 0.3))
def test_split_a_larger_validation_share_moves_no_test_row(row_id: str, a: float, b: float) -> None:
    first = split_by_hash(row_id, PrepareConfig(validation_fraction=a, test_fraction=0.2))
    second = split_by_hash(row_id, PrepareConfig(validation_fraction=b, test_fraction=0.2))
    assert (first == "test") == (second == "test")


def test_load_rows_without_id_get_one_of_their_text(tmp_path: Path) -> None:
    plain = [{"question": "q", "answer": "a"}, {"question": "q", "answer": "b"}]
    first = load_examples(domain(tmp_path / "d.jsonl", plain), CONFIG)
    again = load_examples(domain(tmp_path / "e.jsonl", plain[::-1]), CONFIG)
    assert {e.id for e in first} == {e.id for e in again}
    assert len({e.id for e in first}) == 2


def test_load_repeated_id_error_names_both_rows(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"row 2: field 'id' repeats '0' of .*row 1"):
        load_examples(domain(tmp_path / "d.jsonl", [rows(1)[0], rows(1)[0]]), CONFIG)


def test_load_same_row_twice_without_ids_is_kept_for_the_duplicate_check(tmp_path: Path) -> None:
    same = [{"question": "q", "answer": "a"}] * 3
    examples = load_examples(domain(tmp_path / "d.jsonl", same), CONFIG)
    assert len({e.id for e in examples}) == 3
    kept, rejected = drop_exact_duplicates(examples)
    assert (len(kept), len(rejected)) == (1, 2)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the capital of France?", "what is the capital of France"),
        ("合同违约的法律后果是什么？", "合同违约的法律后果是什么"),
        ("Ｗｈａｔ is ﬁne?", "What is fine?"),
    ],
)
def test_comparable_words_signs_case_and_variants_do_not_matter(one: str, other: str) -> None:
    assert comparable_words(one) == comparable_words(other)


def test_comparable_words_spaceless_scripts_sign_by_sign() -> None:
    assert comparable_words("法律 law?") == ("法", "律", "law")
    assert comparable_words("+-*/") == ("+-*/",)


def test_load_limit_keeps_the_same_rows_when_the_file_is_reordered(tmp_path: Path) -> None:
    one = load_examples(domain(tmp_path / "d.jsonl", rows(30), 7), CONFIG)
    two = load_examples(domain(tmp_path / "e.jsonl", rows(30)[::-1], 7), CONFIG)
    assert len(one) == 7
    assert {e.id for e in one} == {e.id for e in two}


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"split": "dev"}, "field 'split' is 'dev'"),
        ({"expected": "x"}, "'expected' must be a list"),
    ],
)
def test_load_bad_optional_field_error(tmp_path: Path, extra: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_examples(domain(tmp_path / "d.jsonl", [rows(1)[0] | extra]), CONFIG)


def test_load_empty_file_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no rows"):
        load_examples(domain(tmp_path / "d.jsonl", []), CONFIG)


def test_exact_duplicates_held_out_row_wins_over_the_training_row() -> None:
    examples = [
        Example("a", "Why  so?", "Yes", "train"),
        Example("b", "why so?", "yes", "test"),
        Example("c", "why so?", "no", "train"),
    ]
    kept, rejected = drop_exact_duplicates(examples)
    assert [e.id for e in kept] == ["b", "c"]
    assert [(r.id, r.reason, r.detail) for r in rejected] == [("a", "exact_duplicate", "of b")]


def test_near_duplicates_test_question_is_never_trained_on() -> None:
    examples = [
        Example("a", "what is the court of penzek", "1", "train"),
        Example("b", "the court of penzek is what", "2", "test"),
        Example("c", "what is the court of gelmis", "3", "train"),
        Example("d", "is what the court of gelmis", "4", "train"),
    ]
    kept, rejected, _ = drop_near_duplicates(examples, WordVectors(), CONFIG)
    assert [e.id for e in kept] == ["b", "c"]
    assert {r.id: r.reason for r in rejected} == {
        "a": "near_duplicate_of_held_out",
        "d": "near_duplicate",
    }


def test_near_duplicates_close_vectors_with_other_words_are_kept() -> None:
    class Constant:
        def embed(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
            return np.ones((len(texts), 1), dtype=np.float32)

    examples = [Example("a", "court of penzek", "1", "train"), Example("b", "law", "2", "test")]
    kept, rejected, _ = drop_near_duplicates(examples, Constant(), CONFIG)
    assert len(kept) == 2
    assert not rejected


@pytest.mark.parametrize("exact_below", [1, 50_000])
def test_near_duplicates_templated_questions_cost_no_cosine_a_pair(
    monkeypatch: pytest.MonkeyPatch, exact_below: int
) -> None:
    class Template:
        """All questions are near each other."""

        def embed(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
            vectors = np.random.default_rng(0).normal(size=(len(texts), 8)) * 0.01 + 1
            return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def counted(one: Any, of_one: Any, *others: Any) -> Any:
        compared.append(len(of_one))
        return cosines(one, of_one, *others)

    compared: list[int] = []
    monkeypatch.setattr("raft_core.data.neighbours.cosines", counted)
    questions = [f"What is the attr{n % 20} of name{n // 20} in law?" for n in range(600)]
    questions += [f"Name{n} has what attr{n}, in law" for n in range(10)]
    questions += [question.upper() for question in questions[::60]]
    examples = [Example(str(n), q, f"a{n}", "train") for n, q in enumerate(questions)]
    config = PrepareConfig(exact_below=exact_below)
    _, rejected, _ = drop_near_duplicates(examples, Template(), config)
    # The last eleven repeat every sixtieth question of those before.
    assert [r.id for r in rejected] == [str(n) for n in range(610, 621)]
    assert [r.detail.split(",")[0] for r in rejected] == [f"of {n}" for n in range(0, 601, 60)]
    assert sum(compared) < 10 * len(questions)


def test_near_duplicates_rejections_stand_in_the_order_of_the_rows_they_repeat() -> None:
    questions = [
        "one two three",
        "four five six",
        "six five four",
        "three two one",
        "one three two",
    ]
    examples = [Example(str(n), q, "a", "train") for n, q in enumerate(questions)]
    kept, rejected, _ = drop_near_duplicates(examples, WordVectors(), CONFIG)
    assert [e.id for e in kept] == ["0", "1"]
    assert [(r.id, r.detail.split(",")[0]) for r in rejected] == [
        ("3", "of 0"), ("4", "of 0"), ("2", "of 1"),
    ]  # fmt: skip


def test_near_duplicates_dropped_row_drops_no_other() -> None:
    class Arc:
        """Neighbours on an arc are near, the next but one are not."""

        def embed(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
            angles_N = np.radians([15.0 * len(text.split("?")) for text in texts])
            return np.stack([np.cos(angles_N), np.sin(angles_N)], axis=1).astype(np.float32)

    examples = [Example(str(n), "why" + "?" * n, "a", "train") for n in range(4)]
    kept, rejected, _ = drop_near_duplicates(examples, Arc(), CONFIG)
    assert [e.id for e in kept] == ["0", "2"]
    assert [(r.id, r.detail[:4]) for r in rejected] == [("1", "of 0"), ("3", "of 2")]


def test_exact_search_limit_enters_the_identity_where_it_is_not_the_default() -> None:
    assert "exact_below" not in fingerprint(PrepareConfig())
    assert fingerprint(PrepareConfig(exact_below=9))["exact_below"] == 9


@pytest.mark.parametrize("exact_below", [3, 50_000])
def test_prepare_tells_how_an_approximate_search_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exact_below: int
) -> None:
    monkeypatch.setattr("raft_core.refine.prepare.open_embedder", lambda *_: WordVectors())
    places = ["penzek", "gelmis", "lorzek", "numsos"]
    data = [
        {"question": question.format(place), "answer": "a", "split": split}
        for place, split in zip(places, ["train", "test", "validation", "train"], strict=True)
        for question in ("what is the court of {}", "the court of {} is what")
    ]
    config = PrepareStage(
        domain=domain(tmp_path / "d.jsonl", data),
        prepare=PrepareConfig(exact_below=exact_below),
        encoder=EmbedderConfig(model={"path": "mini:base"}),
    )
    (tmp_path / "out").mkdir()
    progress = Progress(tmp_path / "events.jsonl")
    run(StageRun(config, {}, tmp_path / "out", tmp_path, RuntimeConfig(), progress))
    counts = json.loads((tmp_path / "out" / "counts.json").read_text())
    assert counts == {"in": 8, "kept": 4, "rejected": {"near_duplicate": 4}}
    told = tmp_path / "out" / "neighbours.json"
    assert told.exists() == (exact_below == 3)
    if exact_below == 3:
        report = json.loads(told.read_text())
        assert (report["kind"], report["vectors"], report["recall"]) == ("ivf_sq8", 8, 1.0)
        assert report["true"] == report["found"] == 4
        assert "approximate search" in (tmp_path / "events.jsonl").read_text()


def test_require_splits_empty_split_error_names_it_and_the_remedy() -> None:
    config = DomainConfig(name="d", data=DataSource(path="x.jsonl"))
    with pytest.raises(
        InputError, match=r"2 rows leave a split empty \(train 1, validation 1, test 0\)"
    ):
        require_splits(
            [Example("a", "q", "a", "train"), Example("b", "q", "a", "validation")], config
        )


def test_fractions_that_leave_no_training_rows_refused() -> None:
    with pytest.raises(ValueError, match=r"below 0\.9"):
        PrepareConfig(validation_fraction=0.5, test_fraction=0.5)
