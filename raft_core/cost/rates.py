"""How fast machines are: a small table, and seconds made of it.

Every entry says what was measured and where. What was not is an assumption by name, and the
estimate says so. To add a machine measure it and write an entry; nothing here is a setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from raft_core.cost.flops import TrainingFlops, forward
from raft_core.cost.memory import GIB
from raft_core.cost.shapes import ModelShape
from raft_core.cost.tokens import Reading


@dataclass(frozen=True, slots=True)
class Machine:
    """One device. `flops` is its peak by type of numbers, of which `training` and `reading` are
    the achieved shares; bandwidth is that of its memory, in bytes a second.

    Layers cost seconds by themselves, however few tokens there are: `layer` in a forward pass,
    `graph_layer` in one position of a rollout by a CUDA graph, `engine_layer` in one step of vLLM,
    which has `engine_step` beside it.
    """

    name: str
    kind: str
    memory: int | None
    flops: Mapping[str, float]
    bandwidth: float
    training: float
    reading: float
    layer: float
    graph_layer: float
    engine_layer: float
    engine_step: float
    start: float
    engine_start: float
    load: float
    rows: float
    evidence: str

    def peak(self, dtype: str) -> float:
        return self.flops.get(dtype, self.flops["bfloat16"])


# Peaks without sparsity and bandwidths are those of NVIDIA's data sheets, memory is what a process
# can have of it. On an H100 a 3B shape with LoRA trained at 21% of that peak (what is computed anew
# counted) and read at 27%, and a layer took 1.1 ms of a decoding step with the adapter merged, 1.9
# beside it (docs/benchmarks.md). By a CUDA graph it took 0.5 ms in a training step, reading the
# weights apart. What vLLM takes is assumed: its graphs leave about a twentieth of 1.1 ms.
H100 = Machine(
    name="NVIDIA H100 80GB",
    kind="cuda",
    memory=79 * GIB,
    flops={"bfloat16": 989e12, "float16": 989e12, "float32": 67e12},
    bandwidth=3.35e12,
    training=0.21,
    reading=0.27,
    layer=1.1e-3,
    graph_layer=0.5e-3,
    engine_layer=0.04e-3,
    engine_step=4e-3,
    start=20.0,
    engine_start=60.0,
    load=1e9,
    rows=200.0,
    evidence="training measured with a 3B shape and LoRA, vLLM's seconds assumed",
)
UNMEASURED = "the H100's shares of the peak, not measured here"
H200 = replace(H100, name="NVIDIA H200", memory=139 * GIB, bandwidth=4.8e12, evidence=UNMEASURED)
A100 = replace(
    H100,
    name="NVIDIA A100 80GB",
    flops={"bfloat16": 312e12, "float16": 312e12, "float32": 19.5e12},
    bandwidth=2.0e12,
    evidence=UNMEASURED,
)
# Fitted to one run of the embedded default (957,568 parameters, vLLM for its answers) and to three
# steps of a Llama of 48.8M, one thread a stage: trainings at 37 and 86 GFLOP/s, 1.3 and 3 ms a
# layer and rollout step, 6,200 tokens/s of vLLM at 256 requests.
CPU = Machine(
    name="CPU, 2 cores",
    kind="cpu",
    memory=None,
    flops={"bfloat16": 100e9, "float16": 100e9, "float32": 100e9},
    bandwidth=10e9,
    training=0.5,
    reading=0.5,
    layer=1.3e-3,
    graph_layer=1.3e-3,
    engine_layer=0.8e-3,
    engine_step=25e-3,
    start=3.0,
    engine_start=5.0,
    load=1e9,
    rows=100.0,
    evidence="measured with models of 1M and 50M parameters, one thread a stage",
)
GPUS = (H200, H100, A100)
# Of requests to endpoints, which are asked `concurrency` at a time: assumed.
ENDPOINT_SECONDS = 2.0
# Of stages that load no model: 0.3 to 3.6 in the run above.
LIGHT_SECONDS = 2.0


def machine_of(device: str, gpu_name: str | None, gpu_memory: int | None = None) -> Machine:
    """The entry of a device, by the name that its driver gives it; without one the H100's."""
    if device == "cpu":
        return CPU
    for machine in GPUS:
        model = machine.name.split()[1]
        if gpu_name is not None and model in gpu_name:
            return _with_memory(machine, gpu_memory)
    if gpu_name is None:
        return H100
    evidence = f"{gpu_name} has no entry of its own: computed as {H100.name}. {H100.evidence}"
    return _with_memory(H100, gpu_memory, evidence)


def _with_memory(machine: Machine, memory: int | None, evidence: str | None = None) -> Machine:
    return replace(machine, memory=memory or machine.memory, evidence=evidence or machine.evidence)


def training_seconds(
    machine: Machine,
    shape: ModelShape,
    flops: TrainingFlops,
    *,
    dtype: str,
    passes: int,
    steps: int,
    trained_parameters: int,
    processes: int = 1,
) -> float:
    """Without rollouts: arithmetic, launching layers, and AdamW's reading and writing.

    `passes` are forward and backward passes, each worth three forward passes of launches, with one
    more for a teacher and one for what is computed again.
    """
    arithmetic = (flops.student + flops.recompute + flops.teacher) / (
        machine.peak(dtype) * machine.training * processes
    )
    rounds = 3 + (flops.teacher > 0) + (flops.recompute > 0)
    launching = passes * rounds * shape.layers * machine.layer
    # Weight, gradient and two moments are read, three of them written, in float32.
    optimizer = steps * 28 * trained_parameters / (machine.bandwidth * processes)
    # A GPU computes while the next kernels are launched.
    working = arithmetic + launching if machine.kind == "cpu" else max(arithmetic, launching)
    return working + optimizer


def decoding_seconds(
    machine: Machine,
    shape: ModelShape,
    reading: Reading,
    *,
    dtype: str,
    width: int,
    steps: float,
    graph: bool = False,
) -> float:
    """By the model itself: so many steps one after the other, each through all layers."""
    weights = steps * shape.parameters * width / machine.bandwidth
    arithmetic = forward(shape, reading) / (machine.peak(dtype) * machine.reading)
    layer = machine.graph_layer if graph else machine.layer
    return steps * shape.layers * layer + max(weights, arithmetic)


def engine_seconds(
    machine: Machine,
    shape: ModelShape,
    reading: Reading,
    *,
    dtype: str,
    width: int,
    steps: float,
    parallel: int = 1,
) -> float:
    """vLLM's continuous batching: so many steps of the whole batch."""
    weights = steps * shape.parameters * width / (machine.bandwidth * parallel)
    arithmetic = forward(shape, reading) / (machine.peak(dtype) * machine.reading * parallel)
    waiting = steps * (machine.engine_step + shape.layers * machine.engine_layer)
    return waiting + weights + arithmetic
