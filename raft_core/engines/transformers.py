"""`transformers.generate` as an engine, for places without vLLM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from raft_core.config.runtime import RuntimeConfig
from raft_core.engines.base import (
    Completion,
    GenerationRequest,
    JsonSchema,
    OnCompletion,
    Sampling,
    TransformersConfig,
    complete_fitting,
)
from raft_core.engines.chat import (
    encode_prompt,
    load_tokenizer,
    loading,
    require_vocabulary,
    stop_token_ids,
)
from raft_core.errors import InputError


class TransformersGenerator:
    """One loaded model; prompts of similar length share a batch."""

    def __init__(self, config: TransformersConfig, runtime: RuntimeConfig) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self._enable_thinking = config.enable_thinking
        self._tokenizer = load_tokenizer(config.model)
        self._batch_size = runtime.evaluation_batch_size
        with loading(config.model):
            self._model = AutoModelForCausalLM.from_pretrained(
                config.model.resolve(),
                revision=config.model.revision,
                dtype=config.dtype,
                use_safetensors=True,
                trust_remote_code=False,
            )
        require_vocabulary(self._tokenizer, self._model, config.model)
        self._model = self._model.to(torch.device(runtime.torch_device())).eval()

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        sampling: Sampling,
        *,
        choices: Sequence[str] | None = None,
        json_schema: JsonSchema | None = None,
        on_completion: OnCompletion | None = None,
    ) -> list[Completion]:
        """Complete every request; nothing restricts an answer to `json_schema`.

        Raises:
            InputError: `choices` are given, which this engine cannot enforce.
        """
        if choices:
            raise InputError("the transformers engine has no structured output; use kind: vllm")
        encoded = [
            encode_prompt(self._tokenizer, request.prompt, self._enable_thinking)
            for request in requests
        ]

        def complete(rows: list[int]) -> list[Completion]:
            by_length = sorted(rows, key=lambda i: len(encoded[i]))
            completions: dict[int, Completion] = {}
            for start in range(0, len(by_length), self._batch_size):
                batch = by_length[start : start + self._batch_size]
                token_ids = generate_batch(
                    self._model,
                    [encoded[i] for i in batch],
                    [requests[i].seed for i in batch],
                    sampling,
                    stop_ids=stop_token_ids(self._tokenizer, self._model.generation_config),
                    pad_id=self._tokenizer.pad_token_id,
                )
                for i, ids in zip(batch, token_ids, strict=True):
                    completions[i] = self._completion(ids)
                    if on_completion:
                        on_completion(i, completions[i])
            return [completions[i] for i in rows]

        limit = self._model.config.max_position_embeddings
        return complete_fitting(encoded, limit, complete, on_completion)

    def close(self) -> None:
        """Free the model's memory."""
        del self._model

    def _completion(self, ids: list[int]) -> Completion:
        stops = stop_token_ids(self._tokenizer, self._model.generation_config)
        text = self._tokenizer.decode(ids, skip_special_tokens=True)
        stopped = bool(ids) and ids[-1] in stops
        return Completion(text.strip(), tuple(ids), "stop" if stopped else "length")


def generate_batch(
    model: Any,
    prompts: Sequence[list[int]],
    seeds: Sequence[int],
    sampling: Sampling,
    *,
    stop_ids: Sequence[int],
    pad_id: int,
    in_step: bool = False,
) -> list[list[int]]:
    """Return the token ids that the model appends to each prompt, up to a stop token, inclusive.

    `in_step` keeps all processes at it until the last one is done: each holds a part of the model.
    """
    from raft_core.engines.decoding import decode, is_plain

    # With an adapter, the base model's layers contain it.
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not in_step and is_plain(base):
        return decode(base, prompts, seeds, sampling, stop_ids=stop_ids, pad_id=pad_id)
    return generate(
        model, prompts, seeds, sampling, stop_ids=stop_ids, pad_id=pad_id, in_step=in_step
    )


def generate(
    model: Any,
    prompts: Sequence[list[int]],
    seeds: Sequence[int],
    sampling: Sampling,
    *,
    stop_ids: Sequence[int],
    pad_id: int,
    in_step: bool = False,
) -> list[list[int]]:
    """Generate by `transformers.generate`, for any model and for one that is split."""
    import torch
    from transformers import GenerationConfig, LogitsProcessorList

    from raft_core.engines.sampling import SeededSampling

    width = max(map(len, prompts))
    input_ids_BT = torch.tensor([[pad_id] * (width - len(p)) + p for p in prompts])
    mask_BT = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    processors = LogitsProcessorList()
    if sampling.temperature > 0:
        processors.append(SeededSampling(seeds, sampling.temperature, sampling.top_p))
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=sampling.max_tokens,
        eos_token_id=list(stop_ids),
        pad_token_id=pad_id,
    )
    with torch.no_grad(), without_own_generation_config(model):
        output_BT = model.generate(
            input_ids=input_ids_BT.to(model.device),
            attention_mask=mask_BT.to(model.device),
            generation_config=config,
            logits_processor=processors,
            synced_gpus=in_step,
        )
    return [_until_stop(row, set(stop_ids)) for row in output_BT[:, width:].tolist()]


@contextmanager
def without_own_generation_config(model: Any) -> Iterator[None]:
    """Hide the model's generation config, which may ask for a repetition penalty or top-k.

    Under an adapter the base has one too, which generating would replace for good.
    """
    from transformers import GenerationConfig

    models = [model, *([model.get_base_model()] if hasattr(model, "get_base_model") else [])]
    own = [each.generation_config for each in models]
    for each in models:
        each.generation_config = GenerationConfig()
    try:
        yield
    finally:
        for each, config in zip(models, own, strict=True):
            each.generation_config = config


def _until_stop(ids: list[int], stop_ids: set[int]) -> list[int]:
    end = next((i for i, token in enumerate(ids) if token in stop_ids), len(ids) - 1)
    return ids[: end + 1]
