"""The chunked distillation loss beside the dense one: `python -m benchmarks.objective`.

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

import torch
import torch.nn.functional as F

from raft_core.distill.chunked import Head
from raft_core.distill.losses import teacher_target, topk_kl

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


def peak_bytes(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Seconds of the fastest of `repeats` passes, peak extra MiB, the loss, the gradient's norm."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variant", choices=VARIANTS, help="measure this one in this process")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--vocabulary", type=int, default=128_256)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--top-k", type=int, default=512)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if options.variant:
        print(json.dumps(measure(options)))
        return
    found = {}
    for variant in VARIANTS:
        command = [sys.executable, "-m", "benchmarks.objective", *sys.argv[1:]]
        done = subprocess.run(
            [*command, "--variant", variant], check=True, capture_output=True, text=True
        )
        found[variant] = json.loads(done.stdout)
        print(variant, " ".join(f"{k} {v:.6g}" for k, v in found[variant].items()), flush=True)
    time_ratio, memory_ratio = (
        found["chunked"][name] / found["dense"][name] for name in ("seconds", "extra_mib")
    )
    print(f"chunked / dense: time {time_ratio:.2f}, extra memory {memory_ratio:.3f}")


if __name__ == "__main__":
    main()
