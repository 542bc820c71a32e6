"""Running lm-evaluation-harness on a model: what it asked, what was said, what it thinks of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raft_core.config.base import fingerprint
from raft_core.config.runtime import RuntimeConfig
from raft_core.engines.base import GeneratorConfig, OpenAIConfig
from raft_core.engines.chat import TEMPLATE_DAY
from raft_core.errors import InputError
from raft_core.evaluation.benchmarks.harness import HARNESS_SCORING, HarnessBenchmark
from raft_core.evaluation.harness_answers import answer_in_parts, made_by, read_whole, write_whole
from raft_core.execution.stage import StageRun

UNSAFE = "{} runs code that the model writes, which is not done here"


@dataclass(frozen=True, slots=True)
class HarnessRow:
    """One row of a task: what was asked and said, and what each filter and metric makes of it.

    `raw` holds the responses, which are likelihoods where the harness compares them; `filtered`
    filter -> {"response", metric -> value}, the task's first filter first.
    """

    benchmark: str
    task: str
    id: str
    prompt: str
    reference: str
    raw: Any
    filtered: dict[str, dict[str, Any]]


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
            if any(is_unsafe(entry) for entry in entries_of(manager.task_index, benchmark.task)):
                raise InputError(UNSAFE.format(named))
            loaded[name] = list(manager.load([benchmark.task])["tasks"].values())
        except InputError:
            raise
        except Exception as error:  # whatever a hub, a file or a task's own code may raise
            said = " ".join(str(error).split())[:300] or type(error).__name__
            raise InputError(
                f"{named} cannot be loaded ({said}); check its name, and that its data is local or "
                "reachable"
            ) from None
        if any(getattr(task, "UNSAFE_CODE", False) for task in loaded[name]):
            raise InputError(UNSAFE.format(named))
    return loaded


def entries_of(index: Mapping[str, Any], name: str) -> Iterator[Any]:
    """What the harness's index says of a task, or of all tasks of a group or tag."""
    entry = index.get(name)
    if entry is None:
        return
    yield entry
    members = (entry.cfg or {}).get("task")
    tagged = [other for other, each in index.items() if name in each.tags and other != name]
    for member in [*(members if isinstance(members, list) else ()), *tagged]:
        called = member.get("task") if isinstance(member, dict) else member
        if isinstance(called, str) and called != name:
            yield from entries_of(index, called)


def is_unsafe(entry: Any) -> bool:
    """Whether a task says so of itself, before any of its code is imported."""
    return bool((entry.cfg or {}).get("unsafe_code"))


def ask_harness(
    benchmarks: Mapping[str, HarnessBenchmark],
    tasks: Mapping[str, list[Any]],
    generator: GeneratorConfig,
    stage: StageRun,
) -> Iterator[HarnessRow]:
    """Every row of every task, asked by the harness, or found where it was asked before."""
    model = None
    for name, benchmark in benchmarks.items():
        kept = kept_file(benchmark, tasks[name], generator, stage)
        rows = read_whole(kept)
        if rows is None:
            if model is None:
                model = open_model(generator, stage.runtime)
                answer_in_parts(model, parts_file(stage), generator, stage.progress.note)
            rows = list(answered(benchmark, tasks[name], model))
            write_whole(kept, rows)
        stage.progress.advance(len(rows))
        yield from (HarnessRow(benchmark=name, **row) for row in rows)


def kept_file(
    benchmark: HarnessBenchmark, tasks: Sequence[Any], generator: GeneratorConfig, stage: StageRun
) -> Path:
    """Where a model's answers to a task lie: for other stages too, or for this one alone."""
    asked = {name: v for name, v in fingerprint(benchmark).items() if name not in HARNESS_SCORING}
    parts = [made_by(generator), asked, digest_of(tasks, benchmark.limit)]
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
    shared = stage.runtime.cache_generations
    folder = stage.runtime.home_folder / "harness" if shared else stage.scratch
    return folder / f"{key}.jsonl"


def parts_file(stage: StageRun) -> Path:
    """Where what a killed evaluation was answered lies."""
    shared = stage.runtime.cache_generations
    return (stage.runtime.home_folder if shared else stage.scratch) / "harness.sqlite"


def digest_of(tasks: Sequence[Any], limit: int | None) -> str:
    """sha256 over the rows of the tasks, in their order."""
    total = hashlib.sha256()
    for task in sorted(tasks, key=lambda task: str(task.config.task)):
        for number, row in enumerate(task.eval_docs):
            if limit is None or number < limit:
                total.update(json.dumps(row, sort_keys=True, default=str).encode())
    return total.hexdigest()


def digest_of_rows(rows: Sequence[HarnessRow]) -> str:
    """sha256 over what was asked, to be compared with another model's."""
    asked = json.dumps([[row.id, row.reference, row.prompt] for row in rows])
    return hashlib.sha256(asked.encode()).hexdigest()


def answered(
    benchmark: HarnessBenchmark, tasks: Sequence[Any], model: Any
) -> Iterator[dict[str, Any]]:
    """The rows of one benchmark, but for its name."""
    from lm_eval import simple_evaluate

    result = simple_evaluate(
        model=model,
        tasks=list(tasks),
        num_fewshot=benchmark.num_fewshot,
        limit=benchmark.limit,
        apply_chat_template=benchmark.chat_template,
        bootstrap_iters=0,
        log_samples=True,
    )
    for task, samples in sorted(result["samples"].items()):
        by_row: dict[int, dict[str, Any]] = {}
        for sample in samples:
            row = by_row.setdefault(sample["doc_id"], row_of(task, sample))
            metrics = {name: plain(sample[name]) for name in sample["metrics"] if name in sample}
            said = said_by(sample["filtered_resps"])
            row["filtered"][sample["filter"]] = {"response": said, "metrics": metrics}
        yield from (by_row[number] for number in sorted(by_row))


def row_of(task: str, sample: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "task": task,
        "id": f"{task}/{sample['doc_id']}",
        "prompt": str(next(iter(sample["arguments"]))[0]),
        "reference": str(sample["target"]),
        "raw": plain(sample["resps"]),
        "filtered": {},
    }


def said_by(responses: Sequence[Any]) -> str:
    """The only response as text, or all of them as JSON."""
    only = responses[0] if len(responses) == 1 else None
    return only if isinstance(only, str) else json.dumps(plain(responses))


def plain(value: Any) -> Any:
    """What JSON can hold; anything else by its text."""
    return json.loads(json.dumps(value, default=str))


def open_model(generator: GeneratorConfig, runtime: RuntimeConfig) -> Any:
    """The harness's own engine: vLLM on a GPU, transformers on the CPU.

    Its vLLM engine asks for the distribution `vllm`, which the CPU's build is not.
    """
    assert not isinstance(generator, OpenAIConfig)
    shared = {
        "pretrained": generator.model.resolve(),
        "revision": generator.model.revision or "main",
        "dtype": generator.dtype,
        "enable_thinking": generator.enable_thinking,
        "think_end_token": "</think>" if generator.enable_thinking else None,
        "trust_remote_code": False,
        "chat_template_args": {"strftime_now": TEMPLATE_DAY.strftime},
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
        max_length=getattr(generator, "max_model_len", None),
        use_safetensors=True,
    )


def judged_rows(
    rows: Sequence[HarnessRow], benchmark: HarnessBenchmark
) -> list[tuple[HarnessRow, str, str, bool]]:
    """Each row with its response, the metric's name and whether it is right, by filter and metric.

    Raises:
        InputError: the filter or the metric is not there, or the metric is not right or wrong.
    """
    chosen = {task: choice(task, list(each), benchmark) for task, each in by_task(rows).items()}
    judged = []
    for row in rows:
        wanted, metric = chosen[row.task]
        found = row.filtered[wanted]
        judged.append((row, found["response"], metric, bool(found["metrics"][metric])))
    return judged


def by_task(rows: Sequence[HarnessRow]) -> dict[str, list[HarnessRow]]:
    found: dict[str, list[HarnessRow]] = {}
    for row in rows:
        found.setdefault(row.task, []).append(row)
    return found


def choice(task: str, rows: Sequence[HarnessRow], benchmark: HarnessBenchmark) -> tuple[str, str]:
    """Filter and metric of a task: those that are named, or its first ones."""
    wanted = benchmark.filter or next(iter(rows[0].filtered))
    if wanted not in rows[0].filtered:
        known = ", ".join(rows[0].filtered)
        raise InputError(f"task '{task}' of lm-evaluation-harness has the filters {known}")
    values = [row.filtered[wanted]["metrics"] for row in rows]
    names = [benchmark.metric] if benchmark.metric else list(values[0])
    binary = [name for name in names if all(each.get(name) in (0, 1) for each in values)]
    if not binary:
        raise InputError(
            f"task '{task}' of lm-evaluation-harness has no metric "
            f"{benchmark.metric or ''} that is right or wrong for each row; it has "
            f"{', '.join(values[0])}"
        )
    return wanted, binary[0]
