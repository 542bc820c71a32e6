"""Documents: refused with one error before anything is loaded, or rejected one by one."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raft_core.app.document_settings import checked_documents, load_document_settings
from raft_core.config.runtime import RuntimeConfig
from raft_core.data.records import read_jsonl, read_records
from raft_core.documents import passages
from raft_core.documents.reading import read_documents
from raft_core.documents.records import Passage
from raft_core.documents.sources import DocumentSource
from raft_core.errors import InputError
from raft_core.execution.progress import Progress
from raft_core.execution.stage import StageRun

GOOD = "The bridge over the Aare was built in 1930 by the town itself.\n"
ARABIC = "ما هي عاصمة فرنسا؟ باريس هي العاصمة، وهي مدينة كبيرة."
Write = Callable[[Path], None]


def files(**contents: bytes | str) -> Write:
    """Files by name, a double underscore for the dot."""

    def write(folder: Path) -> None:
        for name, content in contents.items():
            data = content.encode() if isinstance(content, str) else content
            (folder / name.replace("__", ".")).write_bytes(data)

    return write


def rows(*given: Any) -> Write:
    text = "\n".join(r if isinstance(r, str) else json.dumps(r) for r in given)
    return files(d__jsonl=text)


def loop(folder: Path) -> None:
    (folder / "loop").symlink_to(folder / "loop")


def pipes(folder: Path) -> None:
    """Whoever reads one waits for ever."""
    for name in ("p.txt", "q.jsonl"):
        os.mkfifo(folder / name)


def unreadable_name(folder: Path) -> None:
    with open(os.fsencode(folder) + b"/n\xff.txt", "w") as file:
        file.write("Something else is told here in a sentence.")


def leading_out(folder: Path) -> None:
    """Two files and a folder that lie beside the folder that is given."""
    other = folder.parent / "other"
    other.mkdir()
    (other / "secret.txt").write_text("A secret that is told in a whole sentence.")
    (other / "rows.jsonl").write_text(json.dumps({"text": "A secret, told in a sentence."}))
    (folder / "sub").mkdir()
    (folder / "sub" / "link.txt").symlink_to(other / "secret.txt")
    (folder / "rows.jsonl").symlink_to(other / "rows.jsonl")
    (folder / "up.txt").symlink_to(Path("..") / "other" / "secret.txt")


REFUSED: dict[str, tuple[str, Write, str]] = {
    "no such file": ("none.txt", files(), r"documents '.*none\.txt': no file .*give \.txt"),
    "an empty folder": ("", files(), r"no file .*a folder or a glob"),
    "hidden files alone": ("", files(**{"__DS_Store": "x"}), r"no file"),
    "a glob without a match": ("*.txt", files(d__md=GOOD), r"\*\.txt': no file"),
    "a file of another kind": ("d.pdf", files(d__pdf="%PDF"), r"unknown kind '\.pdf'; give \.txt"),
    "links in a circle": ("loop", loop, r"loop"),
    "a name too long": ("x" * 5_000, files(), r"name too long|no file"),
    "files of other kinds alone": (
        "", files(d__pdf="%PDF"), r"none of 1 can be used, the first, 'd\.pdf', is unknown_kind",
    ),
    "empty rows": ("d.jsonl", files(d__jsonl="\n \n"), r"d\.jsonl': no rows"),
    "a torn row": ("d.jsonl", rows({"text": GOOD}, '{"text": "'), r"row 2: not JSON"),
    "a row that is a list": ("d.jsonl", rows([GOOD]), r"row 1: a list, not an object .*'text'"),
    "a row without text": ("d.jsonl", rows({"body": GOOD}), r"row 1: field 'text' is missing"),
    "a row whose text is a number": ("d.jsonl", rows({"text": 4}), r"field 'text' is a int"),
    "a title that is a list": ("d.jsonl", rows({"text": GOOD, "title": []}), r"'title' is a list"),
    "an id that is an object": ("d.jsonl", rows({"text": GOOD, "id": {}}), r"field 'id' is a dict"),
    "an id twice": (
        "d.jsonl", rows({"text": GOOD, "id": 1}, {"text": "So.", "id": 1}),
        r"row 2: field 'id' repeats '1' of .*row 1",
    ),
    "rows that are not UTF-8": ("d.jsonl", files(d__jsonl=b'{"text": "\xe9"}'), r"not UTF-8"),
    "nested too deep": ("d.jsonl", rows("[" * 100_000), r"row 1: not JSON"),
    "nothing of the mini world": ("mini:books", files(), r"the mini world has 'documents'"),
    "no domain of the mini world": ("mini:documents/sport", files(), r"no domain 'sport'"),
    "a seed that is none": ("mini:documents/law@x", files(), r"must be a whole number"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_documents_are_refused_with_one_error(name: str, tmp_path: Path) -> None:
    path, write, message = REFUSED[name]
    write(tmp_path)
    given = path if path.startswith("mini:") else str(tmp_path / path)
    with pytest.raises(InputError, match=message) as refused:
        checked_documents(load_document_settings("mini", given))
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 700


# What a folder may hold beside a good document: the reasons of what is not kept.
REJECTED: dict[str, tuple[Write, dict[str, int]]] = {
    "nothing": (files(), {}),
    "an empty file": (files(b__txt=""), {"document_empty": 1}),
    "blanks alone": (files(b__txt=" \n\t\n"), {"document_empty": 1}),
    "Latin-1": (files(b__txt="né".encode("latin-1")), {"not_utf8": 1}),
    "UTF-16": (files(b__txt=GOOD.encode("utf-16")), {"not_utf8": 1}),
    "a NUL": (files(b__txt=GOOD + "\0"), {"nul_character": 1}),
    "too long": (files(b__txt="word " * 1_000), {"document_too_long": 1}),
    "far too long": (files(b__txt="word " * 10_000), {"document_too_long": 1}),
    "another kind": (files(b__pdf="%PDF", c__docx="PK"), {"unknown_kind": 2}),
    "a pipe": (pipes, {"not_a_file": 2}),
    "a name that is no text": (unreadable_name, {"unreadable_name": 1}),
    "a title without end": (
        rows({"text": "Something else is told here in a sentence.", "title": "x" * 2_000}),
        {"title_too_long": 1},
    ),
    "a link that leads nowhere": (
        lambda folder: (folder / "b.txt").symlink_to(folder / "none"), {"unreadable": 1},
    ),
    "links that lead out of the folder": (leading_out, {"outside_folder": 3}),
    "a link inside the folder": (
        lambda folder: (folder / "b.txt").symlink_to("a.txt"), {"document_duplicate": 1},
    ),
    "a link to itself": (
        lambda folder: (folder / "b.txt").symlink_to(folder / "b.txt"), {"unreadable": 1},
    ),
    "a hidden file": (files(**{"__b__txt": "x"}), {}),
    "the same again": (files(b__txt=GOOD + "\n"), {"document_duplicate": 1}),
    "the same with Windows line ends": (
        files(b__txt="\ufeff" + GOOD.replace("\n", "\r\n")), {"document_duplicate": 1},
    ),
    "a passage that another file has": (
        files(b__md=f"# A\n\nAnother thing to say in a whole sentence.\n\n# B\n\n{GOOD}",
              c__md=f"# C\n\nA third thing to say in a whole sentence.\n\n# B\n\n{GOOD}"),
        {"passage_duplicate": 1},
    ),
    "a passage that is too short": (files(b__txt="So."), {"passage_too_short": 1}),
    "rows beside files": (rows({"text": "A row tells of something else, in a sentence."}), {}),
    "a row twice": (rows(*[{"text": "A row tells of something else, in a sentence."}] * 2),
                    {"document_duplicate": 1}),
    "half of a character in a row": (rows('{"text": "a\\ud83d"}'), {"half_character": 1}),
    "a NUL in a title": (
        rows({"text": "A row tells of something else, in a sentence.", "title": "a\0b"}), {},
    ),
    "right-to-left text": (files(b__txt=ARABIC), {}),
    "a path as id": (rows({"text": "Something else is told here in a sentence.", "id": "../../x"}),
                     {}),
}  # fmt: skip


@pytest.mark.parametrize("name", REJECTED)
def test_documents_that_cannot_be_used_cost_themselves_alone(name: str, tmp_path: Path) -> None:
    write, reasons = REJECTED[name]
    folder, out = tmp_path / "given", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    (folder / "a.txt").write_text(GOOD)
    write(folder)
    budget = ["passages.max_document_characters=4000", "passages.budget.limit=200"]
    settings = checked_documents(load_document_settings("mini", str(folder), budget))
    events = Progress(tmp_path / "events.jsonl")
    passages.run(StageRun(settings.passages_stage(), {}, out, out, RuntimeConfig(), events))
    rejected = Counter(row["reason"] for row in read_jsonl(out / "rejected.jsonl"))
    kept = read_records(out / "passages.jsonl", Passage)
    assert rejected == reasons
    assert GOOD.strip() in {passage.text for passage in kept}
    counts = json.loads((out / "counts.json").read_text())
    assert counts["in"] == len(kept) + rejected.total()
    assert len({passage.id for passage in kept}) == len(kept)


@pytest.mark.parametrize("given", ["given", "given/*.txt", "**/*.txt"])
def test_documents_behind_links_out_of_what_is_given_are_not_read(
    given: str, tmp_path: Path
) -> None:
    inside, outside = tmp_path / "top" / "given", tmp_path / "out"
    inside.mkdir(parents=True)
    outside.mkdir()
    (inside / "a.txt").write_text(GOOD)
    (outside / "secret.txt").write_text("A secret.")
    (inside / "b.txt").symlink_to(outside / "secret.txt")
    (inside / "linked").symlink_to(outside)
    source = DocumentSource(path=str(tmp_path / "top" / given))
    before = source.identity()
    documents, _ = read_documents(source, 4_000)
    assert [document.text for document in documents] == [GOOD]
    (outside / "secret.txt").write_text("Another secret.")
    assert source.identity() == before


def test_document_that_is_named_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.txt").write_text(GOOD)
    (tmp_path / "given").mkdir()
    link = tmp_path / "given" / "a.txt"
    link.symlink_to(tmp_path / "elsewhere" / "a.txt")
    (tmp_path / "folder").symlink_to(tmp_path / "elsewhere")
    for path in (link, tmp_path / "folder"):
        documents, rejected = read_documents(DocumentSource(path=str(path)), 4_000)
        assert [document.text for document in documents] == [GOOD]
        assert not rejected


SETTINGS = [
    (["ask.proposer.kind=magic"], r"field 'ask\.proposer'.*magic"),
    (
        ["ask.proposer.frames=['What is it?']"],
        r"a frame holds each of \{attribute\} and \{subject\} once",
    ),
    (["ask.proposer.subjects='['"], r"not a regular expression"),
    (["ask.proposer.prompt=ask.v1"], r"'ask\.v1' has the placeholders"),
    (["vote.voters=[]"], r"vote\.voters"),
    (["vote.quorum=2"], r"field 'vote\.quorum': no such field"),
    (["passages.budget.limit=0"], r"passages\.budget\.characters\.limit.*greater than 0"),
    (["passages.budget.overlap=60"], r"budget\.overlap must not exceed half"),
    (["filter.tau=0.7"], r"field 'filter': no such field"),
    (
        ["ask.proposer={kind: llm, generator: {kind: openai, endpoint: far, model: m}}"],
        r"runtime\.endpoints has no 'far'",
    ),
]


@pytest.mark.parametrize(("overrides", "message"), SETTINGS)
def test_document_setting_that_cannot_be_used_is_one_error(
    overrides: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_document_settings("mini", None, overrides)
