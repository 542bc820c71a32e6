"""Stage `ask`: questions on each passage with their answers, by a model or by frames."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from raft_core.data.records import Rejection, read_records, write_jsonl
from raft_core.documents.config import AskStage, FramesProposer, LlmProposer
from raft_core.documents.provenance import asked_by
from raft_core.documents.records import Pair, Passage
from raft_core.documents.structured import MalformedError, fenced, pairs_schema, read_pairs
from raft_core.documents.wording import taken_words
from raft_core.engines import open_generator
from raft_core.engines.base import Completion, GenerationRequest, Generator, request_seed
from raft_core.execution.stage import StageRun

STAGE = "ask"
UNANSWERED = {"error": "model_failed", "too_long": "over_model_length", "length": "cut_off"}


def run(stage: StageRun) -> None:
    """Writes proposed.jsonl, proposer.json and rejected.jsonl.

    Rows in are the pairs that were proposed, and the passages for which there is none.
    """
    config: AskStage = stage.config
    passages = read_records(stage.inputs["passages"] / "passages.jsonl", Passage)
    mine = config.shard.rows(passages)
    generator = open_generator(config.proposer.generator, stage)
    if config.proposer.kind == "llm":
        pairs, rejected = write_questions(mine, config.proposer, generator, stage)
    else:
        pairs, rejected = fill_frames(mine, config.proposer, generator, stage)
    generator.close()
    write_jsonl(stage.out / "proposed.jsonl", pairs)
    (stage.out / "proposer.json").write_text(json.dumps(asked_by(config.proposer), indent=1))
    stage.account(len(pairs) + len(rejected), len(pairs), rejected)


def write_questions(
    passages: Sequence[Passage], proposer: LlmProposer, generator: Generator, stage: StageRun
) -> tuple[list[Pair], list[Rejection]]:
    """What a language model asks of each passage and answers itself."""
    prompt, most = proposer.prompt.load(), proposer.questions_per_passage
    requests = [
        GenerationRequest(
            prompt.render(count=str(most), title=fenced(p.place), passage=fenced(p.text)),
            request_seed(proposer.sampling.seed, STAGE, p.id),
        )
        for p in passages
    ]
    stage.progress.start(STAGE, len(requests))
    completions = generator.generate(
        requests,
        proposer.sampling,
        json_schema=pairs_schema(most),
        on_done=stage.progress.advance,
    )
    pairs: list[Pair] = []
    rejected: list[Rejection] = []
    for passage, completion in zip(passages, completions, strict=True):
        asked, refused = pairs_of(passage, completion, most)
        pairs += asked
        rejected += refused
    return pairs, rejected


def pairs_of(
    passage: Passage, completion: Completion, most: int
) -> tuple[list[Pair], list[Rejection]]:
    """The pairs of one answer, and why others, or the whole answer, are none."""
    if completion.finish_reason in UNANSWERED:
        reason = UNANSWERED[completion.finish_reason]
        return [], [Rejection(passage.id, STAGE, reason, completion.error)]
    try:
        items = read_pairs(completion.text)
    except MalformedError as error:
        return [], [Rejection(passage.id, STAGE, "malformed_output", str(error))]
    if not items:
        return [], [Rejection(passage.id, STAGE, "no_question")]
    pairs, rejected = [], []
    for number, item in enumerate(items):
        pair_id = f"{passage.id}:{number}"
        if isinstance(item, str):
            rejected.append(Rejection(pair_id, STAGE, "malformed_pair", item))
        elif number >= most:
            rejected.append(Rejection(pair_id, STAGE, "beyond_limit", f"over {most} pairs"))
        else:
            pairs.append(Pair(pair_id, passage.id, item["question"], item["answer"]))
    return pairs, rejected


def fill_frames(
    passages: Sequence[Passage], proposer: FramesProposer, generator: Generator, stage: StageRun
) -> tuple[list[Pair], list[Rejection]]:
    """Questions by rule, which the model answers by reading the passage."""
    asked = [
        (passage, f"{passage.id}:{number}", question)
        for passage in passages
        for number, question in enumerate(framed_questions(passage.text, proposer))
    ]
    having = {passage.id for passage, _, _ in asked}
    none = [Rejection(p.id, STAGE, "no_question") for p in passages if p.id not in having]
    pairs, rejected = answered(asked, proposer, generator, stage)
    return pairs, none + rejected


def answered(
    asked: Sequence[tuple[Passage, str, str]],
    proposer: FramesProposer,
    generator: Generator,
    stage: StageRun,
) -> tuple[list[Pair], list[Rejection]]:
    """Pairs of (passage, id of the pair, question), each answered by reading the passage."""
    prompt = proposer.prompt.load()
    requests = [
        GenerationRequest(
            prompt.render(reference=passage.text, question=question),
            request_seed(proposer.sampling.seed, STAGE, pair_id),
        )
        for passage, pair_id, question in asked
    ]
    stage.progress.start(STAGE, len(requests))
    completions = generator.generate(requests, proposer.sampling, on_done=stage.progress.advance)
    pairs, rejected = [], []
    for (passage, pair_id, question), completion in zip(asked, completions, strict=True):
        if completion.finish_reason != "stop" or not completion.text:
            reason = UNANSWERED.get(completion.finish_reason, "no_answer")
            rejected.append(Rejection(pair_id, STAGE, reason, completion.error))
            continue
        taken = tuple(dict.fromkeys(taken_words(completion.text, passage.text, question)))
        pairs.append(Pair(pair_id, passage.id, question, completion.text, taken))
    return pairs, rejected


def framed_questions(text: str, proposer: FramesProposer) -> list[str]:
    """Every frame with every subject and attribute that the text names, in the text's order.

    A subject and an attribute that have nothing to do with each other make a question that the
    passage does not answer: voters are there to see it.
    """
    subjects = list(dict.fromkeys(match[0] for match in re.finditer(proposer.subjects, text)))
    attributes = [a for a in proposer.attributes if re.search(rf"\b{re.escape(a)}\b", text)]
    return [
        frame.replace("{attribute}", attribute).replace("{subject}", subject)
        for subject in subjects
        for attribute in attributes
        for frame in proposer.frames
    ]
