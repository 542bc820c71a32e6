"""lineage.html: one file that shows every row and runs none of their texts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft_core.lineage import page
from raft_core.lineage.differences import difference
from raft_core.lineage.page import content_digest, script_json
from raft_core.lineage.sample import PageSample
from tests.unit.lineage.crafted import ARABIC, HOSTILE, Crafted, Run, example, verdict

ADDRESS = re.compile(r"(?:https?:)?//[\w.]|@import|url\(", re.IGNORECASE)


class Parsed(HTMLParser):
    """Elements in their order, each with its attributes and the text right inside of it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.feed(file.read_text("utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        self.elements.append(("", {}, []))  # what follows is not inside of it

    def handle_data(self, data: str) -> None:
        if self.elements:
            self.elements[-1][2].append(data)

    def all(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attrs, "".join(text)) for name, attrs, text in self.elements if name == tag]

    @property
    def rows(self) -> list[dict[str, Any]]:
        (data,) = (text for attrs, text in self.all("script") if attrs.get("id") == "data")
        return json.loads(data)["rows"]


@pytest.fixture
def open_page(crafted: Crafted, run_lineage: Run) -> Callable[..., Parsed]:
    return lambda **settings: Parsed(run_lineage(crafted.write(), **settings) / "lineage.html")


def test_page_has_every_row_once(open_page: Callable[..., Parsed]) -> None:
    assert [row["id"] for row in open_page().rows] == [
        "fused", "below", "guarded", "arabic", HOSTILE, "valid", "tested", "again",
    ]  # fmt: skip


def test_page_texts_of_rows_make_no_element(open_page: Callable[..., Parsed]) -> None:
    parsed = open_page()
    assert [attrs.get("type") for attrs, _ in parsed.all("script")] == ["application/json", None]
    assert not parsed.all("img")
    handlers = [name for _, attrs, _ in parsed.elements for name in attrs if name.startswith("on")]
    assert handlers == []
    hostile = next(row for row in parsed.rows if row["id"] == HOSTILE)
    assert hostile["question"]["text"] == hostile["reference"]["text"] == HOSTILE
    assert hostile["versions"][1]["guard"] == [{"rule": HOSTILE, "failed": HOSTILE}]


def test_page_domain_and_reason_that_are_markup_stay_text(
    crafted: Crafted, run_lineage: Run
) -> None:
    told = verdict("a", "x", passed=False, reason=HOSTILE)
    crafted.add(example("a"), told, ("it is red", "reference"), [])
    parsed = Parsed(run_lineage(crafted.write()) / "lineage.html")
    assert len(parsed.all("script")) == 2
    assert HOSTILE in [attrs.get("data-reason") for attrs, _ in parsed.all("button")]


def test_page_policy_allows_its_own_script_and_style_alone(
    open_page: Callable[..., Parsed],
) -> None:
    parsed = open_page()
    ((_, style),) = parsed.all("style")
    script = next(text for attrs, text in parsed.all("script") if "id" not in attrs)
    policy = next(a["content"] for a, _ in parsed.all("meta") if "http-equiv" in a)
    assert policy == (
        f"default-src 'none'; script-src {content_digest(script)}; "
        f"style-src {content_digest(style)}; base-uri 'none'; form-action 'none'"
    )
    assert not [attrs for _, attrs, _ in parsed.elements if "style" in attrs]


def test_page_script_writes_text_and_never_markup(open_page: Callable[..., Parsed]) -> None:
    script = next(text for attrs, text in open_page().all("script") if "id" not in attrs)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval", script)


def test_page_loads_nothing(open_page: Callable[..., Parsed]) -> None:
    parsed = open_page()
    assert not parsed.all("link")
    links = [
        attrs[name] for _, attrs, _ in parsed.elements for name in ("src", "href") if name in attrs
    ]
    assert links == ["#rows"]
    own = [text for attrs, text in parsed.all("script") + parsed.all("style") if "id" not in attrs]
    assert not [text for text in own if ADDRESS.search(re.sub(r"^ *//.*$", "", text, flags=re.M))]


def test_page_stage_counts_add_up(open_page: Callable[..., Parsed]) -> None:
    cells = [
        text.strip() for attrs, text in open_page().all("td") if attrs.get("class") == "number"
    ]
    assert cells == ["8", "7", "5", "5", "5", "3", "5", "2"]


def test_page_more_rows_than_it_holds_says_so_and_shows_every_reason(
    crafted: Crafted, run_lineage: Run
) -> None:
    for number in range(300):
        crafted.held_out.append(example(f"more-{number}", "test"))
    folder = run_lineage(crafted.write(), page_rows=100, seed=3)
    rows = Parsed(folder / "lineage.html").rows
    assert len({row["id"] for row in rows}) == len(rows) == 100
    assert {row["reason"] for row in rows} == {
        None, "below_tau", "guard", "keeps_rewrite", "near_duplicate",
    }  # fmt: skip
    assert "100 of 308 rows" in (folder / "lineage.html").read_text()
    other = Parsed(run_lineage(crafted.write(), "other", page_rows=100, seed=4) / "lineage.html")
    assert {row["id"] for row in other.rows} != {row["id"] for row in rows}


def test_page_long_text_is_cut_and_says_how_much(
    crafted: Crafted, run_lineage: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "MOST_CHARACTERS", 5)
    rows = Parsed(run_lineage(crafted.write()) / "lineage.html").rows
    assert rows[0]["reference"] == {"text": "it is", "more": 4}
    assert rows[0]["versions"][0]["more"] == 4


def test_page_texts_from_right_to_left_are_shown_in_their_direction(
    open_page: Callable[..., Parsed],
) -> None:
    parsed = open_page()
    script = next(text for attrs, text in parsed.all("script") if "id" not in attrs)
    assert script.count('dir: "auto"') == 4
    assert next(r for r in parsed.rows if r["id"] == "arabic")["reference"]["text"] == ARABIC


@given(st.text())
def test_script_json_ends_no_script_and_reads_back(text: str) -> None:
    written = script_json([text])
    assert not set(written) & set("<>&\u2028\u2029")
    assert json.loads(written) == [text]


def test_difference_words_against_a_hand_example() -> None:
    assert difference("It is red, not blue.", "It was red and  not blue") == [
        ("=", "It "), ("-", "is "), ("+", "was "), ("=", "red "), ("-", ", "), ("+", "and  "),
        ("=", "not blue"), ("-", "."),
    ]  # fmt: skip


def test_difference_of_equal_texts_is_none() -> None:
    assert difference("a b", "a  b") == [("=", "a  b")]


def test_difference_signs_of_scripts_without_spaces_are_compared_one_by_one() -> None:
    assert difference("東京です", "京都です") == [
        ("-", "東"),
        ("=", "京"),
        ("+", "都"),
        ("=", "です"),
    ]


@given(st.text(), st.text())
def test_difference_kept_and_added_runs_are_the_text(reference: str, text: str) -> None:
    runs = difference(reference, text)
    assert "".join(part for kind, part in runs if kind != "-") == text
    assert all(part for _, part in runs)


def drawn(groups: dict[str, int], most: int, seed: int = 0) -> dict[str, int]:
    sample, names = PageSample(most, seed), []
    for name, count in groups.items():
        for number in range(count):
            sample.add(len(names), f"{name}{number}", (name, None))
            names.append(name)
    chosen = [names[index] for index in sample.indices()]
    return {name: chosen.count(name) for name in groups}


def test_sample_small_groups_are_whole_and_large_ones_share_the_rest() -> None:
    assert drawn({"big": 900, "rare": 1, "few": 10, "large": 400}, 111) == {
        "big": 50, "rare": 1, "few": 10, "large": 50,
    }  # fmt: skip


def test_sample_room_for_all_draws_all() -> None:
    assert drawn({"a": 3, "b": 7}, 10) == {"a": 3, "b": 7}


def test_sample_does_not_depend_on_the_order_of_the_rows() -> None:
    ids = [f"row {n}" for n in range(200)]
    chosen = []
    for order in (ids, ids[::-1]):
        sample = PageSample(20, seed=1)
        for index, row_id in enumerate(order):
            sample.add(index, row_id, ("fused", None))
        chosen.append({order[index] for index in sample.indices()})
    assert chosen[0] == chosen[1]
