"""vLLM in this process: continuous batching on a GPU, and the same engine on the CPU."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from raft_core.config.base import ModelRef
from raft_core.config.runtime import RuntimeConfig
from raft_core.engines.base import (
    Completion,
    FinishReason,
    FollowUp,
    GenerationRequest,
    JsonSchema,
    OnCompletion,
    Sampling,
    VllmConfig,
    too_long,
)
from raft_core.engines.chat import encode_prompts, load_tokenizer, loading, stop_token_ids

FEED_REQUESTS = 64
GIB = 2**30


class VllmGenerator:
    """One loaded model; a seed per request keeps a row's answer independent of its batch."""

    def __init__(self, config: VllmConfig, runtime: RuntimeConfig) -> None:
        os.environ.update(runtime.vllm_environment())
        from vllm import LLM

        self._enable_thinking = config.enable_thinking
        self._tokenizer = load_tokenizer(config.model)
        # vLLM holds one batch that runs and one that waits; the rest stays here.
        self._ahead = 2 * runtime.vllm.max_num_seqs
        self._stop_ids = model_stop_ids(config.model, self._tokenizer)
        with loading(config.model):
            self._llm = LLM(**engine_arguments(config, runtime))

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        sampling: Sampling,
        *,
        choices: Sequence[str] | None = None,
        json_schema: JsonSchema | None = None,
        on_completion: OnCompletion | None = None,
    ) -> list[Completion]:
        """Complete every request."""
        completions: dict[int, Completion] = {}

        def note(position: int, completion: Completion) -> None:
            completions[position] = completion
            if on_completion:
                on_completion(position, completion)

        self.feed(
            requests,
            sampling,
            choices=choices,
            json_schema=json_schema,
            on_completion=note,
            follow_up=lambda idle: (),
        )
        return [completions[position] for position in range(len(requests))]

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
        """Complete these requests and those that `follow_up` adds while they run."""
        engine, form = self._llm.llm_engine, structured(choices, json_schema)
        waiting = deque(enumerate(requests))
        asked, position_of = len(waiting), dict[str, int]()
        while True:
            idle = not waiting and not engine.has_unfinished_requests()
            more = follow_up(idle)
            if idle and not more:
                return
            waiting.extend(enumerate(more, asked))
            asked += len(more)
            while waiting and engine.get_num_unfinished_requests() < self._ahead:
                some = [waiting.popleft() for _ in range(min(FEED_REQUESTS, len(waiting)))]
                position_of |= self._enqueue(some, sampling, form, on_completion)
            # `LLM.generate` runs the same loop, but returns no output before the last one.
            for output in engine.step() if engine.has_unfinished_requests() else ():
                position = position_of.pop(output.request_id)
                on_completion(position, _completion(output.outputs[0]))

    def _enqueue(
        self,
        some: Sequence[tuple[int, GenerationRequest]],
        sampling: Sampling,
        form: Any,
        note: OnCompletion,
    ) -> dict[str, int]:
        """Enqueue requests and return their positions by vLLM's names.

        A prompt that leaves no room for a token is told to `note`. A request costs the tokenizer
        and vLLM about as much as a step: those that come later are taken in while the first are
        answered, and so many at once as a step takes on.
        """
        limit = self._llm.model_config.max_model_len
        prompts = encode_prompts(
            self._tokenizer, [request.prompt for _, request in some], self._enable_thinking
        )
        fitting = []
        for (position, request), ids in zip(some, prompts, strict=True):
            if len(ids) < limit:
                fitting.append((position, request.seed, ids))
            else:
                note(position, too_long(len(ids), limit))
        if not fitting:
            return {}
        names = self._llm.enqueue(
            [{"prompt_token_ids": ids} for _, _, ids in fitting],
            [self._params(sampling, seed, form) for _, seed, _ in fitting],
            use_tqdm=False,
        )
        # Outputs carry a request's number without the suffix that the engine added.
        return {n.partition("-")[0]: p for n, (p, _, _) in zip(names, fitting, strict=True)}

    def complete_ids(
        self,
        prompts: Sequence[list[int]],
        seeds: Sequence[int],
        sampling: Sampling,
        stop_ids: Sequence[int],
    ) -> list[list[int]]:
        """Return the token ids that follow each of these, up to and including a stop token."""
        params = [self._params(sampling, seed, None, stop_ids) for seed in seeds]
        outputs = self._llm.generate(
            [{"prompt_token_ids": ids} for ids in prompts], params, use_tqdm=False
        )
        return [list(output.outputs[0].token_ids) for output in outputs]

    def load_weights(self, weights: Mapping[str, Any]) -> None:
        """Replace the model's weights, and forget what was computed with the old ones.

        An output matrix that is tied to the embeddings has to be listed too: the packed one would
        otherwise stay.
        """
        self._llm.collective_rpc(
            "reload_weights", kwargs={"weights_iterator": list(weights.items())}
        )
        self._llm.reset_prefix_cache()

    def close(self) -> None:
        """Free the model's memory and vLLM's process groups."""
        import gc

        from vllm.distributed import cleanup_dist_env_and_memory

        del self._llm
        gc.collect()
        cleanup_dist_env_and_memory()

    def _params(
        self,
        sampling: Sampling,
        seed: int,
        form: Any = None,
        stop_ids: Sequence[int] | None = None,
    ) -> Any:
        from vllm import SamplingParams

        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            seed=seed,
            stop_token_ids=list(stop_ids or self._stop_ids),
            structured_outputs=form,
            # A deep copy, for callers that reuse the object, takes 0.2 ms a request.
            skip_clone=form is None,
        )


def model_stop_ids(model: ModelRef, tokenizer: Any) -> list[int]:
    """Return a model's stop ids; without generation_config.json that is its tokenizer's eos."""
    from transformers import GenerationConfig

    try:
        known = GenerationConfig.from_pretrained(model.resolve(), revision=model.revision)
    except OSError:
        known = None
    return stop_token_ids(tokenizer, known)


def engine_arguments(config: VllmConfig, runtime: RuntimeConfig) -> dict[str, Any]:
    """Return the keyword arguments of `vllm.LLM`."""
    on_cpu = runtime.torch_device() == "cpu"
    return {
        "model": config.model.resolve(),
        "revision": config.model.revision,
        "dtype": config.dtype,
        "max_model_len": config.max_model_len,
        "gpu_memory_utilization": runtime.vllm.gpu_memory_utilization,
        "tensor_parallel_size": runtime.vllm.tensor_parallel_size,
        "max_num_seqs": runtime.vllm.max_num_seqs,
        "enforce_eager": runtime.vllm.enforce_eager,
        # Prefilling a seeded prompt in pieces rewinds a CUDA generator, which fails on the CPU:
        # there prompts are prefilled whole.
        "enable_chunked_prefill": False if on_cpu else None,
        # On the CPU the cache is filled with zeros at the start: its size costs time.
        "kv_cache_memory_bytes": int(runtime.vllm.cpu_kv_cache_gib * GIB) if on_cpu else None,
        "max_num_batched_tokens": runtime.vllm.max_num_batched_tokens,
        "generation_config": "vllm",
        "load_format": "safetensors",
        # A model could write blanks between the parts of JSON until the length limit.
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        "disable_log_stats": True,
    }


def structured(choices: Sequence[str] | None, json_schema: JsonSchema | None) -> Any:
    """Return vLLM's restriction on an answer, or None."""
    from vllm.sampling_params import StructuredOutputsParams

    if choices:
        return StructuredOutputsParams(choice=list(choices))
    if json_schema:
        return StructuredOutputsParams(json=dict(json_schema))
    return None


def _completion(output: Any) -> Completion:
    reason: FinishReason = "stop" if output.finish_reason == "stop" else "length"
    return Completion(output.text.strip(), tuple(output.token_ids), reason)
