"""Judges and fusion at a real endpoint: vLLM's server on the embedded base."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from raft_core.__main__ import main
from raft_core.config.base import FrozenConfig, ModelRef, fingerprint
from raft_core.config.runtime import EndpointRuntime, RuntimeConfig, VllmRuntime
from raft_core.data.records import Example, FilteredRewrite, read_jsonl, write_jsonl
from raft_core.engines import open_engine, open_generator
from raft_core.engines.base import (
    Completion,
    Engine,
    GenerationRequest,
    OpenAIConfig,
    Sampling,
    VllmConfig,
)
from raft_core.errors import EngineError
from raft_core.evaluation import evaluate as evaluation
from raft_core.evaluation.benchmarks.base import Response
from raft_core.evaluation.config import EvaluateStage
from raft_core.evaluation.judges import JudgedAnswer, LlmJudge, llm_votes
from raft_core.execution.progress import Progress
from raft_core.execution.stage import StageRun
from raft_core.mini.world import domain_rows, general_rows
from raft_core.refine import fuse as fusion
from raft_core.refine.fuse import FuseConfig, FuseStage
from raft_core.store.artifacts import ArtifactRef, StageSpec
from tests.endpoints import Asked, Reply, endpoint
from tests.integration.vllm_server import KEY, KEY_VARIABLE, MODEL, VllmServer, vllm_server

pytestmark = pytest.mark.timeout(600)
QUESTIONS = [row["question"] for row in general_rows()[:24]]
GREEDY = Sampling(max_tokens=32)
WARM = Sampling(temperature=1.5, top_p=0.9, max_tokens=32)
CHOICES = ("correct", "incorrect", "cannot tell")
TOO_LONG = "long " * 600
ROWS = 20
# The shipped prompts are longer than what the embedded model takes.
PROMPTS = {
    "judge": "{question} Reference: {reference} Answer: {response} Right?",
    "grade": "{question} Reference: {reference} Answer: {fused} Grade?",
}
AT_ENDPOINT = OpenAIConfig(endpoint="judges", model=MODEL)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    with vllm_server(tmp_path_factory.mktemp("vllm")) as running:
        yield running


@pytest.fixture(scope="module")
def inside() -> Iterator[Engine]:
    """The same model in this process."""
    config = VllmConfig(model=ModelRef(path="mini:base"), dtype="float32", max_model_len=384)
    vllm = VllmRuntime(enforce_eager=True, max_num_batched_tokens=4096)
    engine = open_engine(config, RuntimeConfig(device="cpu", vllm=vllm))
    yield engine
    engine.close()


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    """Artifacts that stand before judging and fusing, of the law domain."""
    rows = [row for row in domain_rows("law") if row["split"] == "train"][:ROWS]
    folders = {name: tmp_path / name for name in ("prepare", "filter", "respond")}
    for folder in folders.values():
        folder.mkdir()
    for split in ("train", "test"):
        examples = [Example(r["id"], r["question"], r["answer"], split) for r in rows]
        write_jsonl(folders["prepare"] / f"{split}.jsonl", examples)
    write_jsonl(
        folders["filter"] / "filtered.jsonl",
        [FilteredRewrite(r["id"], r["answer"], 0.9, True) for r in rows],
    )
    answers = [TOO_LONG if n == 3 else row["answer"] for n, row in enumerate(rows)]
    write_jsonl(
        folders["respond"] / "responses.jsonl",
        [
            Response("domain", row["id"], row["question"], answer, "stop", 1)
            for row, answer in zip(rows, answers, strict=True)
        ],
    )
    for name, text in PROMPTS.items():
        (tmp_path / f"{name}.txt").write_text(text)
    return folders


def runtime(url: str, **changes: Any) -> RuntimeConfig:
    fields: dict[str, Any] = {"max_retries": 0, "max_failed_share": 0.0, "concurrency": 8}
    here = EndpointRuntime(base_url=url, api_key_env=KEY_VARIABLE, **(fields | changes))
    return RuntimeConfig(device="cpu", endpoints={"judges": here})


def ask(
    url: str,
    sampling: Sampling = GREEDY,
    prompts: list[str] = QUESTIONS,
    *,
    choices: tuple[str, ...] | None = None,
    config: OpenAIConfig = AT_ENDPOINT,
    **changes: Any,
) -> list[Completion]:
    engine = open_engine(config, runtime(url, **changes))
    try:
        return engine.generate(requests(prompts), sampling, choices=choices)
    finally:
        engine.close()


def requests(prompts: list[str]) -> list[GenerationRequest]:
    return [GenerationRequest(prompt, seed=number) for number, prompt in enumerate(prompts)]


def judging(tmp_path: Path, config: OpenAIConfig = AT_ENDPOINT) -> EvaluateStage:
    judge = LlmJudge(generator=config, prompt=str(tmp_path / "judge.txt"), max_tokens=32)
    return EvaluateStage(panel=(judge,), benchmarks={"domain": {"kind": "domain"}})


def run(
    stage: Any, config: FrozenConfig, inputs: dict[str, Path], out: Path, how: RuntimeConfig
) -> Path:
    """A stage that finds no answer of another one."""
    out.mkdir()
    uncached = how.model_copy(update={"cache_generations": False})
    stage.run(StageRun(config, inputs, out, out, uncached, Progress(None)))
    return out


def test_serve_answers_are_those_of_the_engine_in_this_process(
    server: VllmServer, inside: Engine
) -> None:
    greedy = ask(server.url)
    assert greedy == inside.generate(requests(QUESTIONS), GREEDY)
    assert {c.finish_reason for c in greedy} == {"stop"}
    assert all(c.token_ids for c in greedy)


def test_serve_seeded_answers_depend_neither_on_concurrency_nor_on_where_the_model_runs(
    server: VllmServer, inside: Engine
) -> None:
    together = ask(server.url, WARM, concurrency=24)
    assert together == ask(server.url, WARM, concurrency=1)
    assert together == inside.generate(requests(QUESTIONS), WARM)
    again = requests(QUESTIONS[:1] * 8)  # one prompt under eight seeds
    assert len({c.text for c in inside.generate(again, WARM)}) > 1
    assert [c.text for c in ask(server.url, WARM, QUESTIONS[:1] * 8)] == [
        c.text for c in inside.generate(again, WARM)
    ]


def test_serve_length_limit_and_too_long_prompt_are_told_and_cost_no_other_row(
    server: VllmServer,
) -> None:
    short, long = ask(server.url, Sampling(max_tokens=2), [QUESTIONS[0], TOO_LONG])
    assert (short.finish_reason, len(short.token_ids)) == ("length", 2)
    assert (long.finish_reason, long.text) == ("too_long", "")
    assert "384 tokens" in long.error
    # An answer that may be longer than the model is a wrong setting, not a long prompt.
    (wrong,) = ask(server.url, Sampling(max_tokens=600), QUESTIONS[:1])
    assert (wrong.finish_reason, "max_tokens=600" in wrong.error) == ("error", True)


@pytest.mark.parametrize("structured", ["vllm", "json_schema"])
def test_serve_choices_restrict_the_answer(
    structured: str, server: VllmServer, inside: Engine
) -> None:
    roomy = Sampling(max_tokens=128)  # JSON may hold any white space, and this model likes it
    config = AT_ENDPOINT.model_copy(update={"structured": structured})
    answers = ask(server.url, roomy, choices=CHOICES, config=config)
    assert {c.text for c in answers} <= set(CHOICES)
    assert all(not c.error and c.finish_reason == "stop" for c in answers)
    if structured == "vllm":
        assert answers == inside.generate(requests(QUESTIONS), roomy, choices=CHOICES)
    # Of itself the model says no such thing.
    config = config.model_copy(update={"structured": "none"})
    assert not {c.text for c in ask(server.url, choices=CHOICES, config=config)} & set(CHOICES)


def test_judges_at_an_endpoint_vote_as_the_model_does_here_and_lose_a_too_long_row_alone(
    server: VllmServer, inside: Engine, inputs: dict[str, Path], tmp_path: Path
) -> None:
    config = judging(tmp_path)
    out = run(evaluation, config, inputs, tmp_path / "many", runtime(server.url))
    one = run(evaluation, config, inputs, tmp_path / "one", runtime(server.url, concurrency=1))
    assert (out / "verdicts.jsonl").read_bytes() == (one / "verdicts.jsonl").read_bytes()
    votes = [vote for row in read_jsonl(out / "verdicts.jsonl") for vote in row["votes"]]
    lost = votes.pop(3)
    assert lost["verdict"] == "cannot_tell"
    assert "maximum context length" in lost["detail"]
    assert all(not vote["detail"] for vote in votes)  # each is a verdict of the exact form
    answers = [
        JudgedAnswer(e["id"], e["question"], e["answer"], r["response"])
        for e, r in zip(
            read_jsonl(inputs["prepare"] / "test.jsonl"),
            read_jsonl(inputs["respond"] / "responses.jsonl"),
            strict=True,
        )
    ]
    (judge,) = config.panel
    assert isinstance(judge, LlmJudge)
    here = llm_votes(answers, judge, inside, "llm_1")
    here.pop(3)
    assert [vote["verdict"] for vote in votes] == [vote.verdict for vote in here]
    assert json.loads((out / "scores.json").read_text())["domain"]["n"] == ROWS


def test_fusion_and_its_grader_at_an_endpoint_do_not_depend_on_concurrency(
    server: VllmServer, inputs: dict[str, Path], tmp_path: Path
) -> None:
    grader = {"kind": "llm", "generator": AT_ENDPOINT, "prompt": str(tmp_path / "grade.txt")}
    settings = FuseConfig(
        prompt="fuse.mini.v1",
        sampling={"temperature": 0.7, "top_p": 0.95, "max_tokens": 48},
        rounds=2,
        early_stop=1.0,
        judges=[{"kind": "coverage"}, grader | {"max_tokens": 16}],
    )
    config = FuseStage(generator=AT_ENDPOINT, fuse=settings)
    many = run(fusion, config, inputs, tmp_path / "many", runtime(server.url))
    one = run(fusion, config, inputs, tmp_path / "one", runtime(server.url, concurrency=1))
    for name in ("fused.jsonl", "lineage.jsonl", "rejected.jsonl", "counts.json"):
        assert (many / name).read_bytes() == (one / name).read_bytes(), name
    candidates = [c for row in read_jsonl(many / "lineage.jsonl") for c in row["candidates"]]
    assert len(candidates) > ROWS
    grades = [candidate["votes"]["llm_2"] for candidate in candidates]
    assert all(grade in [n / 10 for n in range(11)] for grade in grades)


class Proxy:
    """Between a stage and the server: it counts, and cuts connections after so many answers."""

    def __init__(self, server: VllmServer, answers: int | None = None) -> None:
        self._server, self._answers = server, answers
        self.completions = 0

    def answer(self, asked: Asked) -> Reply:
        if asked.body is not None:
            self.completions += 1
            if self._answers is not None and self.completions > self._answers:
                return Reply(cut=True)
        data = None if asked.body is None else json.dumps(asked.body).encode()
        address = self._server.url.removesuffix("/v1") + asked.path
        headers = {
            n: asked.headers[n] for n in ("Authorization", "Content-Type") if data or n[0] == "A"
        }
        try:
            with urllib.request.urlopen(urllib.request.Request(address, data, headers)) as reply:
                return Reply(reply.status, json.load(reply))
        except urllib.error.HTTPError as error:
            return Reply(error.code, json.load(error))


@contextmanager
def proxied(proxy: Proxy) -> Iterator[str]:
    with endpoint(proxy.answer) as url:
        yield url


def command(
    config: EvaluateStage, inputs: dict[str, Path], folder: Path, how: RuntimeConfig
) -> int:
    """The exit code of `python -m raft_core evaluate`."""
    folder.mkdir()
    refs = {name: ArtifactRef(stage=name, key=name, path=str(p)) for name, p in inputs.items()}
    spec = StageSpec(
        stage="evaluate",
        version=1,
        config=config.model_dump(mode="json"),
        identity=fingerprint(config),
        inputs=refs,
        runtime=how.model_dump(mode="json"),
    )
    (folder / "spec.json").write_text(spec.model_dump_json())
    return main(["evaluate", "--spec", str(folder / "spec.json"), "--out", str(folder / "out")])


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one error that was printed; the bar of progress stands around it."""
    _, error, said = capsys.readouterr().err.partition("error: ")
    assert error
    assert "Traceback" not in said
    return said.splitlines()[0]


def test_server_that_dies_ends_the_stage_and_the_next_run_asks_only_for_the_rest(
    server: VllmServer,
    inputs: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config, dying, well = judging(tmp_path), Proxy(server, answers=12), Proxy(server)
    with proxied(dying) as url:
        assert command(config, inputs, tmp_path / "first", runtime(url, concurrency=1)) == 1
    said = error_line(capsys)
    assert said.startswith("endpoint 'judges', model 'mini': several requests in a row")
    assert "What was answered is kept" in said
    assert dying.completions == 12 + 3
    with proxied(well) as url:
        assert command(config, inputs, tmp_path / "second", runtime(url)) == 0
    # One of the twelve was the row that is too long: nothing was generated, so nothing is kept.
    assert well.completions == ROWS - 11


@pytest.mark.parametrize(
    ("key", "model", "message"),
    [
        ("sk-of-another", MODEL, f"the key in the environment variable {KEY_VARIABLE} is refused"),
        (KEY, "gpt-9", f"has no model 'gpt-9'; it serves: {MODEL}"),
    ],
)
def test_wrong_key_or_model_is_one_error_after_one_request(
    key: str,
    model: str,
    message: str,
    server: VllmServer,
    inputs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, key)
    config = judging(tmp_path, AT_ENDPOINT.model_copy(update={"model": model}))
    proxy = Proxy(server)
    with proxied(proxy) as url:
        how = runtime(url, concurrency=1, max_retries=4)
        assert command(config, inputs, tmp_path / "run", how) == 1
    said = error_line(capsys)
    assert said.startswith("endpoint 'judges'")
    assert message in said
    assert key not in said
    assert proxy.completions == 1


def test_budget_of_tokens_is_held_by_what_the_server_counts(
    server: VllmServer, tmp_path: Path
) -> None:
    how = runtime(server.url, concurrency=1, budget={"tokens": 60})
    stage = StageRun(None, {}, tmp_path, tmp_path, how, Progress(None))
    with pytest.raises(EngineError, match=r"budget\.tokens = 60 is used up"):
        open_generator(AT_ENDPOINT, stage).generate(requests(QUESTIONS), GREEDY)
    # 60 tokens are about three questions with their answers.
    rest = Proxy(server)
    with proxied(rest) as url:
        stage = StageRun(None, {}, tmp_path, tmp_path, runtime(url), Progress(None))
        done = open_generator(AT_ENDPOINT, stage).generate(requests(QUESTIONS), GREEDY)
    assert done == ask(server.url)
    assert len(QUESTIONS) - 6 < rest.completions < len(QUESTIONS)
