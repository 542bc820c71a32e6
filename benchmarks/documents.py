"""Measure pairs made of documents against the embedded world's facts.

`python -m benchmarks.documents --limits 80 160` cuts the files of all five domains into passages of
at most so many characters, lets the mini profile ask and vote, and counts for each kind of question
how many pairs are kept and how many of these are right:

- stated: the passage states what is asked for;
- crossed: it names subject and attribute, each in another fact;
- lost: it says that the answer is not known;
- stranger: it does not name the subject (asked beside the profile's own questions).

The whole answer is scored: the fact's value and no other, the fact's name and no other, no number.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from raft_core.app.document_settings import DocumentSettings, load_document_settings
from raft_core.data.records import read_records, write_jsonl
from raft_core.documents import ask as asking
from raft_core.documents import passages
from raft_core.documents import vote as voting
from raft_core.documents.records import Pair, Passage
from raft_core.engines import open_generator
from raft_core.execution.progress import Progress
from raft_core.execution.shards import WHOLE
from raft_core.execution.stage import StageRun
from raft_core.mini.documents import documents
from raft_core.mini.lexicon import DOMAIN_NAMES, DOMAINS, NAMES, Fact
from raft_core.mini.scores import holds_value
from raft_core.mini.world import domain_facts

KINDS = ("stated", "crossed", "lost", "stranger")
COUNTED = ("asked", "right", "kept", "kept right")
STRANGER = ":s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limits", type=int, nargs="+", default=[80], help="characters")
    parser.add_argument("--seed", type=int, default=0, help="of the facts")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    options = parser.parse_args()
    print(f"| limit | question | {' | '.join(COUNTED)} |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for limit in options.limits:
        with tempfile.TemporaryDirectory() as folder:
            counts = measured(Path(folder), options.seed, limit, options.overrides)
        for kind in KINDS:
            if counts[kind, "asked"]:
                cells = [str(counts[kind, what]) for what in COUNTED]
                print(f"| {limit} | {kind} | {' | '.join(cells)} |", flush=True)


def measured(folder: Path, seed: int, limit: int, overrides: list[str]) -> Counter[Any]:
    """Return the pairs of one seed, counted by (kind, entry of COUNTED)."""
    rows = [row for domain in DOMAINS for row in documents(domain, seed)]
    write_jsonl(folder / "files.jsonl", rows)
    own = [f"passages.budget.limit={limit}", *overrides]
    settings = load_document_settings("mini", str(folder / "files.jsonl"), own)
    cut, ask, vote = (folder / name for name in ("passages", "ask", "vote"))
    passages.run(stage_of(settings, settings.passages_stage(), cut))
    asked = stage_of(settings, settings.ask_stage(WHOLE), ask, {"passages": cut})
    asking.run(asked)
    there = read_records(cut / "passages.jsonl", Passage)
    pairs = read_records(ask / "proposed.jsonl", Pair)
    pairs += strangers(there, settings, asked)
    write_jsonl(ask / "proposed.jsonl", pairs)
    inputs = {"passages": cut, "ask": ask}
    voting.run(stage_of(settings, settings.vote_stage(), vote, inputs))
    gone = {json.loads(line)["id"] for line in (vote / "rejected.jsonl").open()}
    facts = [fact for domain in DOMAINS for fact in domain_facts(domain, seed)]
    return counted(pairs, {p.id: p for p in there}, facts, gone)


def stage_of(
    settings: DocumentSettings, config: Any, out: Path, inputs: dict[str, Path] | None = None
) -> StageRun:
    out.mkdir()
    events = Progress(out.with_suffix(".events"))
    return StageRun(config, inputs or {}, out, out, settings.runtime, events)


def strangers(there: list[Passage], settings: DocumentSettings, stage: StageRun) -> list[Pair]:
    """Ask in the first frame for an attribute that the passage names, of a name it does not."""
    rng = random.Random("strangers")
    proposer = settings.ask.proposer
    assert proposer.kind == "frames"
    every = sorted(name for names in DOMAIN_NAMES.values() for name in names)
    asked = []
    for passage in there:
        for attribute in proposer.attributes:
            if not re.search(rf"\b{attribute}\b", passage.text):
                continue
            name = rng.choice([name for name in every if name not in passage.text])
            question = proposer.frames[0].format(attribute=attribute, subject=name)
            asked.append((passage, f"{passage.id}{STRANGER}{attribute}", question))
    generator = open_generator(proposer.generator, stage)
    pairs, _ = asking.answered(asked, proposer, generator, stage)
    generator.close()
    return pairs


def counted(
    pairs: list[Pair], there: dict[str, Passage], facts: list[Fact], gone: set[str]
) -> Counter[Any]:
    counts: Counter[Any] = Counter()
    for pair in pairs:
        text = there[pair.passage].text
        (fact,) = [
            f for f in facts if f.name in pair.question and f.attribute in pair.question
        ] or [Fact("", "", "")]
        kind = "stranger" if STRANGER in pair.id else kind_of(text, fact)
        right = kind == "stated" and states(pair.answer, fact)
        counts[kind, "asked"] += 1
        counts[kind, "right"] += right
        if pair.id not in gone:
            counts[kind, "kept"] += 1
            counts[kind, "kept right"] += right
    return counts


def states(answer: str, fact: Fact) -> bool:
    """Return whether an answer says the fact's value of the fact's subject, and nothing of another.

    No fact of the world has a number, so a number is an addition.
    """
    others = [word for word in re.findall(r"\w+", answer) if word in NAMES and word != fact.name]
    added = others or re.search(r"\d", answer)
    return not added and holds_value(answer, [fact.value])


def kind_of(text: str, fact: Fact) -> str:
    """Classify what the passage says of the fact that is asked for."""
    stated = [
        sentence
        for sentence in text.split("\n\n")
        if fact.name and fact.name in sentence and fact.attribute in sentence
    ]
    if any(fact.value in sentence for sentence in stated):
        return "stated"
    return "lost" if stated else "crossed"


if __name__ == "__main__":
    main()
