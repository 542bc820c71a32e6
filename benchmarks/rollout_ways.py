"""Time ways to draw rollouts, in turns, with one model: `python -m benchmarks.rollout_ways SPEC`.

SPEC is JSON, the fields of `RolloutSpec`; the rates are printed as JSON. Every round runs each way
once, with seeds of its own; a rate is the tokens that were drawn by the seconds that it took.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig, LogitsProcessor

from raft_core.config.base import ModelRef
from raft_core.config.runtime import RuntimeConfig, VllmRuntime
from raft_core.distill.models import store_by_columns
from raft_core.distill.rollout.rollout import VllmRollouts
from raft_core.engines.base import Sampling, request_seed
from raft_core.engines.chat import encode_prompt, load_tokenizer, stop_token_ids
from raft_core.engines.decoding import decode
from raft_core.mini.world import domain_rows

BASELINE = "`transformers.generate`"
BATCH = 16
Draw = Callable[[Sequence[list[int]], Sequence[int]], list[list[int]]]


@dataclass(frozen=True, slots=True)
class RolloutSpec:
    """Settings of one measurement: `new_tokens` are drawn for every row, or fewer if it `stops`."""

    model: str
    new_tokens: int
    stops: bool
    rounds: int
    vllm: bool

    def to_argument(self) -> str:
        return json.dumps(asdict(self))


class NoiseByRow(LogitsProcessor):
    """Gumbel noise with one call of `exponential_` for each row, within `generate`."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.Tensor:
        noise_BV = torch.empty_like(scores)
        for row_V, generator in zip(noise_BV, self._generators, strict=True):
            row_V.exponential_(generator=generator)
        return scores.float() - noise_BV.clamp_min(1e-20).log()


class Ways:
    """The ways to draw for a batch of prompts; `rows` says how many each takes at once."""

    def __init__(self, spec: RolloutSpec) -> None:
        ref = ModelRef(path=spec.model)
        self._spec, self._ref = spec, ref
        tokenizer = load_tokenizer(ref)
        self._student = self._load()
        self._by_columns = self._load()
        store_by_columns(self._by_columns)
        self._pad_id = tokenizer.pad_token_id
        stops = stop_token_ids(tokenizer, self._student.generation_config)
        # A stop token that nothing draws: an id behind the vocabulary.
        self._stop_ids = stops if spec.stops else [self._student.config.vocab_size]
        self._sampling = Sampling(temperature=1.0, max_tokens=spec.new_tokens)
        rows = [row for row in domain_rows("law") if row["split"] == "train"][: 4 * BATCH]
        self.prompts = [encode_prompt(tokenizer, row["question"], False) for row in rows]

    def all(self) -> dict[str, tuple[int, Draw]]:
        found: dict[str, tuple[int, Draw]] = {
            BASELINE: (BATCH, self._generate),
            "the same, static cache": (BATCH, self._static),
            "RAFT's loop": (BATCH, self._decode(self._student)),
            "and weights by columns": (BATCH, self._decode(self._by_columns)),
            "and 1 step ahead": (2 * BATCH, self._decode(self._by_columns)),
            "and 3 steps ahead": (4 * BATCH, self._decode(self._by_columns)),
            "16 rows in bfloat16": (BATCH, self._bfloat16),
            "16 rows, 2 threads": (BATCH, self._two_threads),
        }
        if self._spec.vllm:
            draw = self._vllm()
            found |= {
                "vLLM, weights handed over": (BATCH, draw),
                "vLLM, 3 steps ahead": (4 * BATCH, draw),
            }
        return found

    def _load(self) -> Any:
        return AutoModelForCausalLM.from_pretrained(self._ref.resolve(), dtype="float32").eval()

    def _decode(self, model: Any) -> Draw:
        def draw(prompts: Sequence[list[int]], seeds: Sequence[int]) -> list[list[int]]:
            ids = {"stop_ids": self._stop_ids, "pad_id": self._pad_id}
            return decode(model, prompts, seeds, self._sampling, **ids)

        return draw

    def _generate(
        self, prompts: Sequence[list[int]], seeds: Sequence[int], **options: Any
    ) -> list[list[int]]:
        width = max(map(len, prompts))
        padded = [[self._pad_id] * (width - len(p)) + p for p in prompts]
        mask = [[0] * (width - len(p)) + [1] * len(p) for p in prompts]
        config = GenerationConfig(
            do_sample=False,
            max_new_tokens=self._spec.new_tokens,
            eos_token_id=self._stop_ids,
            pad_token_id=self._pad_id,
            **options,
        )
        with torch.no_grad():
            output_BT = self._student.generate(
                input_ids=torch.tensor(padded),
                attention_mask=torch.tensor(mask),
                generation_config=config,
                logits_processor=[NoiseByRow(seeds)],
            )
        return [_until(ids, self._stop_ids) for ids in output_BT[:, width:].tolist()]

    def _static(self, prompts: Sequence[list[int]], seeds: Sequence[int]) -> list[list[int]]:
        return self._generate(prompts, seeds, cache_implementation="static")

    def _bfloat16(self, prompts: Sequence[list[int]], seeds: Sequence[int]) -> list[list[int]]:
        """Draw with a bfloat16 copy, made each time: a training changes weights at every step."""
        model = copy.deepcopy(self._student).to(torch.bfloat16)
        return self._decode(model)(prompts, seeds)

    def _two_threads(self, prompts: Sequence[list[int]], seeds: Sequence[int]) -> list[list[int]]:
        torch.set_num_threads(2)
        try:
            return self._decode(self._by_columns)(prompts, seeds)
        finally:
            torch.set_num_threads(1)

    def _vllm(self) -> Draw:
        """Return the way by vLLM.

        It takes no stop token that the model does not have: one that is hardly ever drawn stands
        for none.
        """
        stops = self._stop_ids if self._spec.stops else [self._student.config.vocab_size - 1]
        runtime = RuntimeConfig(device="cpu", vllm=VllmRuntime(enforce_eager=True))
        longest = max(map(len, self.prompts)) + self._spec.new_tokens
        sampler = VllmRollouts(self._ref, "float32", longest, self._sampling, stops, runtime)
        torch.set_num_threads(1)
        return lambda prompts, seeds: sampler.sample(self._student, prompts, seeds)


def _until(ids: list[int], stop_ids: Sequence[int]) -> list[int]:
    end = next((i for i, token in enumerate(ids) if token in stop_ids), len(ids) - 1)
    return ids[: end + 1]


def rates(spec: RolloutSpec) -> dict[str, list[float]]:
    """Return tokens per second of every way, round by round, without a first call's preparation."""
    torch.set_num_threads(1)
    ways = Ways(spec)
    every = ways.all()
    found: dict[str, list[float]] = {way: [] for way in every}
    for number in range(-1, spec.rounds):
        drawn = {}
        for way, (rows, draw) in every.items():
            seeds = [request_seed(number, row) for row in range(rows)]
            started = time.perf_counter()
            drawn[way] = draw(ways.prompts[:rows], seeds)
            seconds = time.perf_counter() - started
            if number >= 0:
                found[way].append(sum(map(len, drawn[way])) / seconds)
        if drawn["and weights by columns"] != drawn[BASELINE]:
            print("the loop drew other tokens than generate", file=sys.stderr)
        print(f"{spec.model}: round {number + 1} of {spec.rounds}", file=sys.stderr)
    return found


if __name__ == "__main__":
    print(json.dumps(rates(RolloutSpec(**json.loads(sys.argv[1])))))
