"""Stage `vote`: voters say of each pair whether its passage answers it and supports its answer.

A voter that fails, or answers in another form than a verdict's, votes `cannot_tell`; the number of
voters never shrinks. A pair is kept when more than half of all voters approve.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from raft_core.config.base import fingerprint
from raft_core.data.records import Rejection, read_records, write_jsonl
from raft_core.documents.config import RereadVoter, VerdictVoter, VoterConfig, VoteStage
from raft_core.documents.provenance import asked_by
from raft_core.documents.records import CRITERIA, Opinion, Pair, PairVote, Passage
from raft_core.documents.self_contained import leaning_phrase
from raft_core.documents.structured import VERDICT_SCHEMA, MalformedError, fenced, read_verdict
from raft_core.documents.wording import added_facts, lacking_names, overlap, taken_words
from raft_core.engines import open_generator
from raft_core.engines.base import Completion, GenerationRequest, Generator, request_seed
from raft_core.execution.stage import StageRun

STAGE = "vote"
Asked = tuple[Pair, Passage]


def run(stage: StageRun) -> None:
    """Writes votes.jsonl (every pair with every vote), voters.json and rejected.jsonl."""
    config: VoteStage = stage.config
    passages = {
        passage.id: passage
        for passage in read_records(stage.inputs["passages"] / "passages.jsonl", Passage)
    }
    pairs = read_records(stage.inputs["ask"] / "proposed.jsonl", Pair)
    leaning = {
        pair.id: phrase
        for pair in pairs
        if (phrase := leaning_phrase((pair.question, pair.answer), config.vote.phrases))
    }
    asked = [(pair, passages[pair.passage]) for pair in pairs if pair.id not in leaning]
    votes = cast_votes(asked, config.vote.voters, stage)
    rejected = []
    for pair in pairs:
        if pair.id in leaning:
            rejected.append(Rejection(pair.id, STAGE, "refers_to_passage", leaning[pair.id]))
        elif reason := why_rejected(votes[pair.id]):
            rejected.append(Rejection(pair.id, STAGE, reason, told(votes[pair.id])))
    write_jsonl(
        stage.out / "votes.jsonl",
        ({"id": p.id, "votes": [asdict(v) for v in votes.get(p.id, ())]} for p in pairs),
    )
    about = {voter_name(v, n): asked_by(v) for n, v in enumerate(config.vote.voters, 1)}
    (stage.out / "voters.json").write_text(json.dumps(about, indent=1))
    stage.account(len(pairs), len(pairs) - len(rejected), rejected)


def voter_name(voter: VoterConfig, position: int) -> str:
    return f"{voter.kind}_{position}"


def cast_votes(
    asked: Sequence[Asked], voters: Sequence[VoterConfig], stage: StageRun
) -> dict[str, list[PairVote]]:
    """The votes on each pair, by its id, in the order of the voters.

    Voters of one model vote one after the other, so that it is loaded once.
    """
    stage.progress.start(STAGE, len(asked) * len(voters))
    by_model: dict[str, list[int]] = {}
    for place, voter in enumerate(voters):
        model = json.dumps(fingerprint(voter.generator), sort_keys=True)
        by_model.setdefault(model, []).append(place)
    cast: dict[int, list[PairVote]] = {}
    for places in by_model.values():
        generator = open_generator(voters[places[0]].generator, stage)
        for place in places:
            cast[place] = votes_of(asked, voters[place], place + 1, generator, stage)
        generator.close()
    return {
        pair.id: [cast[place][row] for place in range(len(voters))]
        for row, (pair, _) in enumerate(asked)
    }


def votes_of(
    asked: Sequence[Asked],
    voter: VoterConfig,
    position: int,
    generator: Generator,
    stage: StageRun,
) -> list[PairVote]:
    """One voter's votes, a request a pair."""
    name, prompt = voter_name(voter, position), voter.prompt.load()
    verdict = isinstance(voter, VerdictVoter)
    requests = [
        GenerationRequest(
            prompt.render(
                title=fenced(passage.place),
                passage=fenced(passage.text),
                question=fenced(pair.question),
                answer=fenced(pair.answer),
            )
            if verdict
            else prompt.render(reference=passage.text, question=pair.question),
            request_seed(voter.sampling.seed, STAGE, voter.kind, pair.id),
        )
        for pair, passage in asked
    ]
    completions = generator.generate(
        requests,
        voter.sampling,
        json_schema=VERDICT_SCHEMA if verdict else None,
        on_done=stage.progress.advance,
    )
    if isinstance(voter, VerdictVoter):
        return [verdict_vote(name, completion) for completion in completions]
    return [
        reread_vote(name, voter, pair, passage, completion)
        for (pair, passage), completion in zip(asked, completions, strict=True)
    ]


def verdict_vote(name: str, completion: Completion) -> PairVote:
    """What a model said, if it said it in the form that it was asked for."""
    if completion.finish_reason != "stop":
        said = completion.error or f"the answer ended early ({completion.finish_reason})"
        return _cannot_tell(name, said)
    try:
        opinions = read_verdict(completion.text)
    except MalformedError as error:
        return _cannot_tell(name, completion.error or str(error))
    return PairVote(name, **opinions)


def _cannot_tell(name: str, detail: str) -> PairVote:
    return PairVote(name, "cannot_tell", "cannot_tell", "cannot_tell", detail[:200])


def reread_vote(
    name: str, voter: RereadVoter, pair: Pair, passage: Passage, completion: Completion
) -> PairVote:
    """Answerable: the passage names what the question names, and the second answer takes words of
    its own from it. Grounded: both answers take nearly the same words, and the pair's adds no name,
    number or denial of its own.

    It reads the passage's text alone, so what only a title names is lacking.
    """
    if completion.finish_reason != "stop" or not completion.text:
        detail = completion.error or f"no whole answer ({completion.finish_reason})"
        return PairVote(name, "cannot_tell", "cannot_tell", None, detail[:200])
    lacking = lacking_names(pair.question, passage.text)
    mine = taken_words(completion.text, passage.text, pair.question)
    given = taken_words(pair.answer, passage.text, pair.question)
    answerable: Opinion = "yes" if mine and not lacking else "no"
    added = added_facts(pair.answer, passage.text, pair.question)
    agreed = overlap(mine, given) >= voter.agreement
    grounded: Opinion = "yes" if agreed and not added else "no"
    detail = f"the passage lacks {', '.join(sorted(lacking))}; " if lacking else ""
    detail += f"the answer adds {', '.join(added)}; " if added else ""
    return PairVote(name, answerable, grounded, None, f"{detail}{completion.text}"[:200])


def why_rejected(votes: Sequence[PairVote]) -> str | None:
    """None if more than half of all voters approve; else the first thing that keeps it out."""
    if 2 * sum(vote.approves for vote in votes) > len(votes):
        return None
    for criterion in CRITERIA:
        opinions = [getattr(vote, criterion) for vote in votes]
        asked = [opinion for opinion in opinions if opinion is not None]
        if asked and 2 * asked.count("yes") <= len(asked):
            open_still = 2 * (asked.count("yes") + asked.count("cannot_tell")) > len(asked)
            return "undecided" if open_still else f"not_{criterion}"
    return "voters_disagree"


def told(votes: Sequence[PairVote]) -> str:
    """How many approve, in words."""
    return f"{sum(vote.approves for vote in votes)} of {len(votes)} voters approve"
