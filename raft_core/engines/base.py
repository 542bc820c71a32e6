"""Interfaces and settings of what models do for a stage: write text, and make vectors of text."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, runtime_checkable

from pydantic import BeforeValidator, Field, field_validator

from raft_core.config.base import FrozenConfig, ModelRef, is_installed
from raft_core.config.secrets import secret_in

if TYPE_CHECKING:
    import numpy as np

FinishReason = Literal["stop", "length", "too_long", "error"]
OnCompletion = Callable[[int, "Completion"], None]
FollowUp = Callable[[bool], Sequence["GenerationRequest"]]
JsonSchema = Mapping[str, Any]


class Sampling(FrozenConfig):
    """How completions are drawn; temperature 0 is greedy."""

    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Annotated[int, Field(gt=0, le=131_072)] = 512
    seed: int = 0


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One chat turn to answer; `seed` makes the completion independent of its batch."""

    prompt: str
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer to one request; `token_ids` holds what was generated, the stop token included.

    `token_ids` is empty where an endpoint does not tell them. A request that failed for good has
    no text, finish reason `error` and says why in `error`; one whose prompt does not fit the model
    has finish reason `too_long`.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    error: str = ""


class Engine(Protocol):
    """A loaded model; the order of completions is the order of requests."""

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        sampling: Sampling,
        *,
        choices: Sequence[str] | None = None,
        json_schema: JsonSchema | None = None,
        on_completion: OnCompletion | None = None,
    ) -> list[Completion]:
        """Complete every request; `choices` restricts each answer to one of these strings.

        `json_schema` restricts it to JSON of this form where the engine can; none can promise that
        the answer does not end early, so what is read has to be checked all the same.
        `on_completion` is called in this thread with a request's position and its completion as
        soon as that is there, once for every request.
        """
        ...

    def close(self) -> None:
        """Free the model's memory."""
        ...


@runtime_checkable
class FeedingEngine(Engine, Protocol):
    """An engine that takes more requests while it answers others, so that no batch runs empty."""

    def feed(
        self,
        requests: Sequence[GenerationRequest],
        sampling: Sampling,
        *,
        choices: Sequence[str] | None = None,
        json_schema: JsonSchema | None = None,
        on_completion: OnCompletion,
        follow_up: FollowUp,
    ) -> None:
        """Complete these requests and those that follow, which are numbered after them.

        `follow_up` is called again and again, with True when nothing else is left to be answered;
        if it then returns no request, this is the end.
        """
        ...


class Generator(Protocol):
    """What a stage uses: an engine behind the cache of completions (`cached.py`)."""

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        sampling: Sampling,
        *,
        choices: Sequence[str] | None = None,
        json_schema: JsonSchema | None = None,
        on_done: Callable[[int], None] | None = None,
        on_completion: OnCompletion | None = None,
        follow_up: FollowUp | None = None,
    ) -> list[Completion]:
        """Complete every request as an engine does, and those that `follow_up` adds.

        `on_done` is told how many more requests have their completion. `follow_up` is called until
        it returns no request: by a `FeedingEngine` while it works, by others once all is answered.
        All completions are returned.
        """
        ...

    def close(self) -> None:
        """Free the model's memory, if it was loaded."""
        ...


class Encoder(Protocol):
    """A loaded sentence encoder."""

    def batches(self, texts: Sequence[str]) -> Iterator[tuple[list[int], np.ndarray[Any, Any]]]:
        """Yield positions of some texts and their unit vectors, float32 [B, D]."""
        ...


class Embedder(Protocol):
    """What a stage uses: an encoder behind the cache of vectors (`embedding_cache.py`)."""

    def embed(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        """Return the unit vectors of all texts, float32 [N, D]."""
        ...


class VllmConfig(FrozenConfig):
    """vLLM inside the stage process, on a GPU or on the CPU."""

    kind: Literal["vllm"] = "vllm"
    model: ModelRef
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "auto"
    max_model_len: Annotated[int, Field(gt=0)] | None = None
    enable_thinking: bool = False


class TransformersConfig(FrozenConfig):
    """`transformers.generate`: slower than vLLM, and available wherever transformers is."""

    kind: Literal["transformers"] = "transformers"
    model: ModelRef
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "auto"
    enable_thinking: bool = False


class OpenAIConfig(FrozenConfig):
    """An OpenAI-compatible endpoint, whose address is in `runtime.endpoints`.

    `structured` is how an answer is held to one of given choices: `vllm` asks for it, and for token
    ids, as vLLM's server understands it and others refuse; `json_schema` by `response_format`, as
    OpenAI and most servers understand it; `none` leaves it to the prompt. `extra_body` goes into
    every request as it is, for example `{chat_template_kwargs: {enable_thinking: false}}`.
    `model_version` is yours to set: it enters the stage key.
    """

    kind: Literal["openai"] = "openai"
    endpoint: str
    model: str
    model_version: str = ""
    structured: Literal["vllm", "json_schema", "none"] = "vllm"
    extra_body: dict[str, Any] = {}

    @field_validator("extra_body")
    @classmethod
    def _holds_no_key(cls, body: dict[str, Any]) -> dict[str, Any]:
        named = secret_in(body)
        if named is not None:
            raise ValueError(f"holds '{named}', and settings are logged; use api_key_env")
        return body

    def identity(self) -> dict[str, Any]:
        """Return the fields that decide an answer, under the names that stage keys use."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        structured = fields.pop("structured")
        fields["vllm_extensions"] = structured == "vllm"
        return fields | ({"structured": structured} if structured == "json_schema" else {})


def resolve_auto(value: Any) -> Any:
    """Return settings with `kind: auto` replaced: vllm where it is installed, else transformers.

    It is replaced as settings are read, so that a stage's key holds the engine that runs.
    """
    if not isinstance(value, Mapping) or value.get("kind") != "auto":
        return value
    if is_installed("vllm"):
        return {**value, "kind": "vllm"}
    # Of transformers, the model's own limit holds.
    rest = {name: given for name, given in value.items() if name != "max_model_len"}
    return {**rest, "kind": "transformers"}


GeneratorConfig = Annotated[
    Annotated[VllmConfig | TransformersConfig | OpenAIConfig, Field(discriminator="kind")],
    BeforeValidator(resolve_auto),
]


class EmbedderConfig(FrozenConfig):
    """A sentence-transformers encoder."""

    model: ModelRef
    max_tokens: Annotated[int, Field(gt=0)] = 256


def failed(error: str) -> Completion:
    """Return the completion of a request that failed for good."""
    return Completion("", (), "error", error)


def too_long(tokens: int, limit: int) -> Completion:
    """Return the completion of a prompt that leaves no room for an answer."""
    return Completion("", (), "too_long", f"{tokens} prompt tokens, the model takes {limit}")


def complete_fitting(
    prompts: Sequence[list[int]],
    limit: int,
    complete: Callable[[list[int]], Sequence[Completion]],
    on_completion: OnCompletion | None = None,
) -> list[Completion]:
    """Complete all prompts that fit; `complete` takes their indices.

    A prompt fits when it leaves room for at least one token below `limit`. The others get a
    `too_long` completion here, and `on_completion` is told of them; `complete` tells of its own.
    """
    fitting = [i for i, ids in enumerate(prompts) if len(ids) < limit]
    completions = {
        i: too_long(len(ids), limit) for i, ids in enumerate(prompts) if len(ids) >= limit
    }
    if on_completion:
        for i, completion in completions.items():
            on_completion(i, completion)
    completions |= zip(fitting, complete(fitting), strict=True)
    return [completions[i] for i in range(len(prompts))]


def answer_text(text: str) -> str:
    """Return a completion's text without its thinking block, which is no part of the answer."""
    _, closed, after = text.rpartition("</think>")
    return (after if closed else text).strip()


def request_seed(*parts: object) -> int:
    """Return a 31-bit seed that depends only on `parts` (a base seed, a row id, a round ...)."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
