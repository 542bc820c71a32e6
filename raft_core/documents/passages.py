"""Stage `passages`: documents are read, checked and cut; what is not asked about has its reason."""

from __future__ import annotations

from collections.abc import Iterable

from raft_core.data.records import Rejection, write_jsonl
from raft_core.documents.config import BudgetConfig, PassagesConfig, PassagesStage
from raft_core.documents.reading import STAGE, read_documents
from raft_core.documents.records import Document, Passage
from raft_core.documents.splitting import Measure, split
from raft_core.execution.stage import StageRun


def run(stage: StageRun) -> None:
    """Writes passages.jsonl, documents.jsonl (without texts) and rejected.jsonl.

    Rows in are the passages of all documents, and the documents that have none.
    """
    config: PassagesStage = stage.config
    documents, refused = read_documents(
        config.documents, config.passages.max_document_characters, config.limit
    )
    stage.progress.start(STAGE, len(documents))
    measure = measure_of(config.passages.budget)
    passages: list[Passage] = []
    for document in documents:
        passages += passages_of(document, config.passages, measure)
        stage.progress.advance()
    kept, rejected = drop_unusable(passages, config.passages.min_characters)
    write_jsonl(stage.out / "passages.jsonl", kept)
    write_jsonl(stage.out / "documents.jsonl", map(described, documents))
    stage.account(len(passages) + len(refused), len(kept), refused + rejected)


def measure_of(budget: BudgetConfig) -> Measure:
    """How long a text is, in the budget's unit."""
    if budget.kind == "characters":
        return len
    from raft_core.engines.chat import load_tokenizer

    tokenizer = load_tokenizer(budget.model)
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False))


def passages_of(document: Document, config: PassagesConfig, measure: Measure) -> list[Passage]:
    """A document's passages; a passage's id is the document's and its position."""
    budget = config.budget
    cut = split(document.text, measure, budget.limit, budget.overlap, markdown=document.markdown)
    return [
        Passage(
            id=f"{document.id}:{position:04d}",
            document=document.id,
            source=document.source,
            title=document.title,
            heading=heading,
            sha256=document.sha256,
            start=start,
            end=end,
            text=document.text[start:end],
        )
        for position, (heading, (start, end)) in enumerate(cut)
    ]


def drop_unusable(
    passages: Iterable[Passage], min_characters: int
) -> tuple[list[Passage], list[Rejection]]:
    """Without those that are too short, and those that an earlier one repeats up to spacing."""
    kept: dict[str, Passage] = {}
    rejected = []
    for passage in passages:
        text = " ".join(passage.text.split())
        if len(text) < min_characters:
            reason, detail = "passage_too_short", f"{len(text)} characters"
        elif text in kept:
            reason, detail = "passage_duplicate", f"of {kept[text].id}"
        else:
            kept[text] = passage
            continue
        rejected.append(Rejection(passage.id, STAGE, reason, detail))
    return list(kept.values()), rejected


def described(document: Document) -> dict[str, str | int]:
    return {
        "id": document.id,
        "source": document.source,
        "title": document.title,
        "sha256": document.sha256,
        "characters": len(document.text),
    }
