"""Running lm-evaluation-harness on a model: what it asked, what was said, what it thinks of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raft_core.engines.base import GeneratorConfig, OpenAIConfig
from raft_core.errors import InputError
from raft_core.evaluation.benchmarks.harness import HarnessBenchmark
from raft_core.runtime import RuntimeConfig


@dataclass(frozen=True, slots=True)
class HarnessRow:
    """One row of a task. `response` is JSON where the harness compared likelihoods."""

    benchmark: str
    id: str
    prompt: str
    reference: str
    response: str
    metric: str
    correct: bool


def load_tasks(benchmarks: Mapping[str, HarnessBenchmark]) -> dict[str, list[Any]]:
    """The harness's tasks with their data, by benchmark, before any model is loaded.

    Raises:
        InputError: there is no such task, its data is neither here nor reachable, or it would run
            code that a model wrote.
    """
    from lm_eval.tasks import TaskManager

    loaded = {}
    for name, benchmark in benchmarks.items():
        named = f"evaluate.benchmarks.{name}: task '{benchmark.task}' of lm-evaluation-harness"
        try:
            manager = TaskManager(include_path=benchmark.tasks_folder)
            loaded[name] = list(manager.load([benchmark.task])["tasks"].values())
        except Exception as error:  # whatever a hub, a file or a task's own code may raise
            said = " ".join(str(error).split())[:300] or type(error).__name__
            raise InputError(
                f"{named} cannot be loaded ({said}); check its name, and that its data is local or "
                "reachable"
            ) from None
        if any(getattr(task, "UNSAFE_CODE", False) for task in loaded[name]):
            raise InputError(f"{named} runs code that the model writes, which is not done here")
    return loaded


def ask_harness(
    benchmarks: Mapping[str, HarnessBenchmark],
    tasks: Mapping[str, list[Any]],
    generator: GeneratorConfig,
    runtime: RuntimeConfig,
) -> Iterator[HarnessRow]:
    """Every row of every task, asked and scored by the harness.

    Raises:
        InputError: a task has no metric that is right or wrong for each row.
    """
    from lm_eval import simple_evaluate

    model = open_model(generator, runtime)
    for name, benchmark in benchmarks.items():
        result = simple_evaluate(
            model=model,
            tasks=list(tasks[name]),
            num_fewshot=benchmark.num_fewshot,
            limit=benchmark.limit,
            apply_chat_template=benchmark.chat_template,
            bootstrap_iters=0,
            log_samples=True,
        )
        for task, samples in sorted(result["samples"].items()):
            yield from rows_of(name, task, samples, benchmark)


def open_model(generator: GeneratorConfig, runtime: RuntimeConfig) -> Any:
    """The harness's own engine: vLLM on a GPU, transformers on the CPU.

    Its vLLM engine asks for the distribution `vllm`, which the CPU's build is not.
    """
    assert not isinstance(generator, OpenAIConfig)
    shared = {
        "pretrained": generator.model.resolve(),
        "revision": generator.model.revision or "main",
        "dtype": generator.dtype,
    }
    if generator.kind == "vllm" and runtime.torch_device() == "cuda":
        from lm_eval.models.vllm_causallms import VLLM

        return VLLM(
            **shared,
            max_model_len=generator.max_model_len,
            gpu_memory_utilization=runtime.vllm.gpu_memory_utilization,
            tensor_parallel_size=runtime.vllm.tensor_parallel_size,
            load_format="safetensors",
        )
    from lm_eval.models.huggingface import HFLM

    return HFLM(
        **shared,
        device=runtime.torch_device(),
        batch_size=runtime.embed_batch_size,
        use_safetensors=True,
    )


def rows_of(
    name: str, task: str, samples: Sequence[Mapping[str, Any]], benchmark: HarnessBenchmark
) -> Iterator[HarnessRow]:
    """The samples of one task under one filter, in the order of its rows.

    Raises:
        InputError: the metric is not there, or is not right or wrong.
    """
    wanted = benchmark.filter or samples[0]["filter"]
    mine = [sample for sample in samples if sample["filter"] == wanted]
    if not mine:
        known = ", ".join(sorted({sample["filter"] for sample in samples}))
        raise InputError(f"evaluate.benchmarks.{name}: {task} has the filters {known}")
    metric = benchmark.metric or binary_metric(mine)
    if metric is None or any(sample.get(metric) not in (0, 1) for sample in mine):
        raise InputError(
            f"evaluate.benchmarks.{name}: {task} has no metric that is right or wrong for each "
            f"row; it has {', '.join(mine[0]['metrics'])}"
        )
    for sample in sorted(mine, key=lambda sample: sample["doc_id"]):
        said = sample["filtered_resps"]
        text = said[0] if len(said) == 1 and isinstance(said[0], str) else json.dumps(said)
        yield HarnessRow(
            name,
            f"{task}/{sample['doc_id']}",
            str(next(iter(sample["arguments"]))[0]),
            str(sample["target"]),
            text,
            metric,
            bool(sample[metric]),
        )


def binary_metric(samples: Sequence[Mapping[str, Any]]) -> str | None:
    """The first of a task's metrics that is 0 or 1 in every row."""
    names = samples[0]["metrics"]
    return next((n for n in names if all(s.get(n) in (0, 1) for s in samples)), None)
