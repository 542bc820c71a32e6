"""Compare the chunked distillation loss with the dense one: `python -m benchmarks.objective`.

Both compute eqs. 8-10 from hidden states: teacher's top-K targets, the KL, and the gradients of the
student's hidden states and output matrix. The dense version is what the equations say: log-softmax
of [N, V] logits on both sides, restricted to K and renormalised. Each variant runs in a process of
its own; memory is the peak beyond the inputs and the two gradients, which both need.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F

from benchmarks.measuring import CaseResult, Ratio, paired, table
from raft_core.distill.loss.chunked import Head
from raft_core.distill.loss.losses import teacher_target, topk_kl

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int, float], torch.Tensor]
MIB = 2**20


def dense(
    hidden_ND: torch.Tensor, weight_VD: torch.Tensor, teacher_ND: torch.Tensor, k: int, t: float
) -> torch.Tensor:
    with torch.no_grad():
        log_q_NV = F.log_softmax((teacher_ND @ weight_VD.T).float() / t, dim=-1)
        log_q_NK, ids_NK = log_q_NV.topk(k, dim=-1)
        log_q_NK = log_q_NK.log_softmax(-1)
    log_p_NV = F.log_softmax((hidden_ND @ weight_VD.T).float() / t, dim=-1)
    log_p_NK = log_p_NV.gather(-1, ids_NK).log_softmax(-1)
    return t**2 * (log_q_NK.exp() * (log_q_NK - log_p_NK)).sum(-1).mean()


def chunked(
    hidden_ND: torch.Tensor, weight_VD: torch.Tensor, teacher_ND: torch.Tensor, k: int, t: float
) -> torch.Tensor:
    target = teacher_target(teacher_ND, Head(weight_VD.detach()), k)
    weights_N = torch.full((len(hidden_ND),), 1 / len(hidden_ND), device=hidden_ND.device)
    return topk_kl(hidden_ND, Head(weight_VD), target, weights_N, t)


VARIANTS: dict[str, Loss] = {"dense": dense, "chunked": chunked}
SIZES = ("tokens", "vocabulary", "hidden", "top_k", "device", "threads", "repeats")
# How far loss and gradient norm of the two may differ.
AGREEMENT = {"float32": 1e-4, "bfloat16": 1e-2}


def peak_bytes(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Measure the fastest of `repeats` passes, peak extra MiB, the loss, the gradient's norm."""
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    place = {"device": options.device, "dtype": getattr(torch, options.dtype)}
    weight_VD = (torch.randn(options.vocabulary, options.hidden, **place) / 8).requires_grad_()
    hidden_ND = torch.randn(options.tokens, options.hidden, **place).requires_grad_()
    teacher_ND = torch.randn(options.tokens, options.hidden, **place)
    weight_VD.grad, hidden_ND.grad = torch.zeros_like(weight_VD), torch.zeros_like(hidden_ND)
    before, seconds, loss = peak_bytes(options.device), [], torch.zeros(())
    for _ in range(options.repeats):
        weight_VD.grad, hidden_ND.grad = None, None
        started = time.perf_counter()
        loss = VARIANTS[options.variant](hidden_ND, weight_VD, teacher_ND, options.top_k, 1.5)
        loss.backward()
        if options.device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    assert hidden_ND.grad is not None
    return {
        "seconds": min(seconds),
        "extra_mib": (peak_bytes(options.device) - before) / MIB,
        "loss": loss.item(),
        "gradient": hidden_ND.grad.float().norm().item(),
    }


def run(options: argparse.Namespace, variant: str, dtype: str) -> dict[str, float]:
    """Measure one variant in a process of its own."""
    sizes = {name: getattr(options, name) for name in SIZES}
    command = [sys.executable, "-m", "benchmarks.objective", "--variant", variant]
    command += [f"--{name.replace('_', '-')}={value}" for name, value in sizes.items()]
    done = subprocess.run([*command, "--dtype", dtype], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    print(f"{dtype} {variant}: {found['seconds']:.2f} s", file=sys.stderr, flush=True)
    return found


def middle(runs: list[dict[str, float]], name: str) -> float:
    return median(run[name] for run in runs)


def compare(options: argparse.Namespace, dtype: str) -> tuple[list[Ratio], list[str]]:
    """Return ratios of time and memory over pairs of runs, and the table's line."""
    pairs = [[run(options, name, dtype) for name in VARIANTS] for _ in range(options.pairs)]
    dense, chunked = pairs_of = [[pair[side] for pair in pairs] for side in (0, 1)]
    for name in ("loss", "gradient"):
        apart = abs(chunked[0][name] / dense[0][name] - 1)
        if apart > AGREEMENT[dtype]:
            raise SystemExit(f"{dtype}: the two differ in {name} by {apart:.1e}")
    time_ratio, memory_ratio = (
        paired([c[name] for c in chunked], [d[name] for d in dense])
        for name in ("seconds", "extra_mib")
    )
    sides = [f"{middle(s, 'seconds'):.1f} s, {middle(s, 'extra_mib'):,.0f} MiB" for s in pairs_of]
    ratios = [
        Ratio(f"loss in {dtype}: time, chunked / dense", time_ratio, "<= 1"),
        Ratio(f"loss in {dtype}: extra memory, chunked / dense", memory_ratio),
    ]
    return ratios, [dtype, *sides, time_ratio.text(), memory_ratio.text(3)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variant", choices=VARIANTS, help="measure this one in this process")
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--vocabulary", type=int, default=128_256)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--top-k", type=int, default=512)
    parser.add_argument("--dtype", choices=AGREEMENT, help="default: both, one after the other")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="one pair, an eighth of the tokens")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.variant:
        print(json.dumps(measure(options)))
        return
    if options.short:
        options.pairs, options.tokens, options.repeats = 1, options.tokens // 2, 1
    started = time.perf_counter()
    found = [compare(options, d) for d in ([options.dtype] if options.dtype else AGREEMENT)]
    header = ["type", "dense", "chunked", "time, chunked / dense", "extra memory, chunked / dense"]
    ratios = tuple(ratio for those, _ in found for ratio in those)
    text = (
        f"V = {options.vocabulary:,}, K = {options.top_k}, {options.tokens:,} tokens of hidden "
        f"size {options.hidden}, {options.threads} threads, {options.device}: the targets, "
        f"the KL and its gradients. Each figure is the fastest of {options.repeats} passes in a "
        "process of its own; loss and gradient norm of the two agree.\n\n"
    )
    markdown = text + table(header, [line for _, line in found])
    CaseResult("objective", ratios, markdown, time.perf_counter() - started).write(options.json)


if __name__ == "__main__":
    main()
