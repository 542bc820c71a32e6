"""Write the tables of `benchmarks.gpu` from its raw results; imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.gpu_cases import FULL, NO_TIME, SEEN_BEFORE, TINY, TRAINED, Sizes, TrainingCase
from benchmarks.gpu_flops import mean_step
from benchmarks.measuring import CaseResult, Ratio, Spread, paired, table

Found = Mapping[str, Any]
PHASES = ("rollout", "teacher", "forward", "backward", "rest")
NAMES = {
    "chunked": "chunked (RAFT)",
    "dense": "dense top-K",
    "jsd": "JSD over V, float32 (TRL's GKD)",
}


class Report:
    """All results of one or several calls; of repeated cases the last success counts."""

    def __init__(self, results: Sequence[Found], sizes: Sizes) -> None:
        failures_first = sorted(results, key=lambda one: "error" not in one)
        self._found = {(one["section"], one["case"]): one for one in failures_first}
        self._sizes = sizes
        self._ratios: list[Ratio] = []

    def result(self, seconds: float) -> CaseResult:
        makers: tuple[Callable[[], str], ...] = (
            self._introduction,
            self._objective,
            self._rows_alone,
            self._chunks,
            lambda: self._training(
                "lora", "LoRA of rank 16 on all linear layers, base in bfloat16"
            ),
            self._decoding,
            lambda: self._training("whole", "all weights trained, float32 with bfloat16 autocast"),
            self._checks,
            self._failures,
        )
        parts = [part for make in makers if (part := make())]
        return CaseResult("gpu", tuple(self._ratios), "\n\n".join(parts), seconds)

    def _of(self, section: str, case: str) -> Found | None:
        """Return the result of a case, if it has one."""
        found = self._found.get((section, case))
        return None if found is None or "error" in found else found

    @property
    def _rate(self) -> float | None:
        rates = self._of("checks", "rates")
        return None if rates is None else rates["matmul_flops"]

    def _introduction(self) -> str:
        rates = self._of("checks", "rates")
        if rates is None:
            return ""
        card, (low, high) = rates["card"], rates["matmul_spread"]
        side = self._sizes.matmul
        return (
            f"{card['name']} with {card['gib']:.0f} GiB, torch {card['torch']}, CUDA "
            f"{card['cuda']}. A bfloat16 product of {side} x {side} matrices runs at "
            f"{rates['matmul_flops'] / 1e12:.0f} TFLOP/s "
            f"[{low / 1e12:.0f}, {high / 1e12:.0f}] (median of ten, after warm-up), a copy at "
            f"{rates['copy_bytes'] / 1e12:.2f} TB/s, read and written bytes counted."
        )

    def _objective(self) -> str:
        lines: list[Sequence[Any]] = []
        for tokens in self._sizes.objective_tokens:
            found = self._of("objective", f"{tokens} tokens")
            for name, one in (found["variants"] if found else {}).items():
                lines.append(self._objective_line(tokens, name, one, found["variants"]["chunked"]))
        if not lines:
            return ""
        sizes = self._sizes
        header = (
            "tokens",
            "loss",
            "ms",
            "tokens/s",
            "GiB",
            "time, chunked / it",
            "GiB, chunked / it",
        )
        return (
            f"The objective at V = {sizes.objective_vocabulary:,}, K = {sizes.top_k}, hidden "
            f"{sizes.objective_hidden:,}, bfloat16: teacher's side, loss, and the gradients of "
            "hidden states and output matrix. Variants take turns in one process, each round after "
            "a pass to warm up; GiB are the peak beyond the inputs, gradients included.\n\n"
            + table(header, lines)
        )

    def _objective_line(self, tokens: int, name: str, one: Found, own: Found) -> Sequence[Any]:
        label = NAMES[name]
        if "error" in one:
            return (f"{tokens:,}", label, one["error"], "", "", "", "")
        seconds = Spread.of(one["seconds"])
        line = [f"{tokens:,}", label, milliseconds(one), f"{tokens / seconds.median:,.0f}"]
        line.append(f"{one['gib']:.2f}")
        if name == "chunked" or "error" in own:
            return (*line, "", "")
        time = paired(own["seconds"], one["seconds"])
        memory = Spread.of([own["gib"] / one["gib"] if one["gib"] else 0.0])
        for name, spread in (("time", time), ("extra memory", memory)):
            figure = f"loss on a GPU, {tokens:,} tokens: {name}, chunked / {label}"
            self._ratios.append(Ratio(figure, spread))
        return (*line, time.text(), f"{memory.median:.3f}")

    def _rows_alone(self) -> str:
        found = self._of("objective", "rows alone")
        if found is None:
            return ""
        lines = [
            (f"{int(tokens):,}", name, milliseconds(one), gib(one))
            for tokens, variants in found["tokens"].items()
            for name, one in variants.items()
        ]
        return (
            "The same chunked loss where only K rows of the output matrix are read a token "
            "(`Head.sparse`), with the output matrix trained (all weights) or frozen (LoRA).\n\n"
            + table(("tokens", "output matrix, logits of", "ms", "GiB"), lines)
        )

    def _chunks(self) -> str:
        found = self._of("objective", "chunks")
        if found is None:
            return ""
        kinds = [f"{n} {h}" for n in ("kl", "cross_entropy") for h in ("trained", "frozen")]
        lines = []
        for exponent in self._sizes.chunk_exponents:
            ones = [found["variants"][f"2^{exponent} {kind}"] for kind in kinds]
            lines.append((f"2^{exponent}", *(f"{milliseconds(o)}; {gib(o)}" for o in ones)))
        header = ("CUDA_CHUNK_ELEMENTS", *(f"{kind.replace('_', '-')}: ms; GiB" for kind in kinds))
        return (
            f"The size of a chunk, at {found['tokens']:,} tokens, with the output matrix trained "
            "or frozen.\n\n" + table(header, lines)
        )

    def _tried(self, section: str, case: str) -> bool:
        found = self._found.get((section, case))
        return found is not None and found.get("error") != NO_TIME

    def _training(self, section: str, how: str) -> str:
        cases = [c for c in TRAINED[section] if self._tried(section, c.name)]
        lines = [line for case in cases if (line := self._training_line(section, case))]
        if not lines:
            return ""
        sizes = self._sizes
        shape = sizes.large if section == "lora" else sizes.small
        header = ("step", *PHASES, "s/step", "samples/s", "tokens/s", "GiB")
        header = (*header, "MFU student", "with recomputation", "MFU step")
        return (
            f"The training step of a Llama of {shape.name} shape with random weights, {how}: batch "
            f"{sizes.batch}, prompts and answers of {sizes.prompt} and {sizes.answer} tokens on "
            f"average, rollouts of {sizes.rollout} that RAFT's loop draws (`drawn`), the same loop "
            "with its step as a CUDA graph (`drawn by a graph`), or that are given. "
            "Seconds are medians over the steps after the first; tokens are those of answers and "
            "rollouts. MFU: operations of answers and rollouts as rows of their own, over the "
            "measured rate of matrix products, of the student's forward and backward pass and of "
            "the whole step; padding counts nothing, and what is saved by reading a prompt once "
            "counts as if it were done.\n\n" + table(header, lines) + self._prefixes(section)
        )

    def _prefixes(self, section: str) -> str:
        """Describe the cost of the teacher's prompts that are read once for all epochs."""
        found = self._of(section, SEEN_BEFORE)
        if found is None or not found["prefix_seconds"]:
            return ""
        return (
            f"\n\nWith `{SEEN_BEFORE}` the teacher has read its prompts of all "
            f"{len(found['lengths'])} rows before the first step, in "
            f"{found['prefix_seconds']:.2f} s, and its keys and values are kept for all epochs."
        )

    def _training_line(self, section: str, case: TrainingCase) -> Sequence[Any]:
        found = self._found[(section, case.name)]
        if "error" in found:
            return (case.name, found["error"], *[""] * 11)
        steps = found["steps"][1:] or found["steps"]
        step = Spread.of([one["step"] for one in steps])
        phases = [median(one[name] for one in steps) for name in PHASES]
        answer = sum(lengths[1] for lengths in found["lengths"]) / len(found["lengths"])
        tokens = found["batch"] * (answer + found["rollout_tokens"])
        line = [case.name, *(f"{seconds:.2f}" for seconds in phases), step.text()]
        line += [f"{found['batch'] / step.median:.2f}", f"{tokens / step.median:,.0f}"]
        line.append(f"{max(one['gib'] for one in steps):.1f}")
        return (*line, *self._utilisation(section, case, found, steps))

    def _utilisation(
        self, section: str, case: TrainingCase, found: Found, steps: Sequence[Found]
    ) -> Sequence[str]:
        """Return the student's utilisation, the same with recomputation, and the step's."""
        if self._rate is None:
            return ("", "", "")
        shape = self._sizes.large if section == "lora" else self._sizes.small
        how = {"rank": case.rank, "recomputes": case.recomputes, "distills": case.distills}
        flops = mean_step(shape, dict(found), **how)
        rate = self._rate
        passes = [one["forward"] + one["backward"] for one in steps]
        student = Spread.of([flops.student / rate / seconds for seconds in passes])
        again = (flops.student + flops.recomputed) / rate / median(passes)
        whole = Spread.of([flops.whole / rate / one["step"] for one in steps])
        if not case.draws:  # the rollouts were not computed
            whole = Spread.of([(flops.whole - flops.rollout) / rate / one["step"] for one in steps])
        if case.draws:
            what = f"{shape.name} step on a GPU, {'LoRA' if case.rank else 'all weights'}"
            drawn = "rollouts by a graph" if case.graph else "rollouts by the loop"
            self._ratios.append(Ratio(f"{what}, {drawn}: MFU of the student's passes", student))
            self._ratios.append(Ratio(f"{what}, {drawn}: MFU of the whole step", whole))
        return (f"{student.median:.1%}", f"{again:.1%}", f"{whole.median:.1%}")

    def _decoding(self) -> str:
        parts = []
        if found := self._of("decoding", "speed"):
            lines = [self._decoding_line(name, one) for name, one in found["ways"].items()]
            header = ("student, way", "ms a position", "first draw, s", "prompts, s", "captured")
            parts.append(
                f"Drawing rollouts with the same student ({self._sizes.large.name} shape, LoRA), "
                f"{found['rows']} rows at once: by `transformers.generate`, by RAFT's loop, and by "
                "the loop's step as a CUDA graph, whose first draw captures it. Reading the "
                "prompts is not counted in a position.\n\n" + table(header, lines)
            )
            for kind in ("adapter", "adapter merged"):
                self._decoding_ratio(kind, found["ways"])
        if found := self._of("decoding", "tokens"):
            parts.append(
                f"The graph drew the loop's tokens in {found['same']} of {found['calls']} calls "
                f"(float32, batches and weights changed between; {found['captured']} captured)."
            )
        return "\n\n".join(parts)

    def _decoding_line(self, name: str, one: Found) -> Sequence[Any]:
        if "error" in one:
            return (name, one["error"], "", "", "")
        captured = {True: f"yes, keeps {one.get('gib', 0):.2f} GiB", False: one.get("failure")}
        told = captured[one["captured"]] or "no" if "captured" in one else ""
        return (name, milliseconds(one), f"{one['first']:.2f}", f"{one['reading']:.2f}", told)

    def _decoding_ratio(self, kind: str, ways: Mapping[str, Found]) -> None:
        own, other = ways.get(f"{kind}, graph", {}), ways.get(f"{kind}, generate", {})
        if own.get("captured") and "seconds" in own and "seconds" in other:
            ratios = [other["seconds"][0] / seconds for seconds in own["seconds"]]
            figure = f"rollouts on a GPU, {kind}: positions a second, graph / generate"
            self._ratios.append(Ratio(figure, Spread.of(ratios)))

    def _checks(self) -> str:
        losses, step = self._of("checks", "losses"), self._of("checks", "step")
        lines = []
        for dtype, one in (losses["types"] if losses else {}).items():
            errors = [f"{one[name]:.1e}" for name in ("loss", "hidden", "matrix")]
            lines.append((f"losses, {dtype}", *errors, f"{one['allowed']:.0e}", right(one)))
        for name, one in (step or {}).items():
            if isinstance(one, dict):
                error = f"{one['gradient']:.1e}"
                line = (f"step, {name}", f"{one['loss']:.1e}", error, "")
                lines.append((*line, f"{one['allowed']:.0e}", right(one)))
        if not lines:
            return ""
        header = ("check", "loss", "gradient of hidden states or weights", "of the output matrix")
        return (
            "Relative errors on the card: the losses (cross-entropy plus KL, every third with a "
            "tail bucket) beside dense ones in float64, the largest of 20 random cases; the "
            "trainer's step on a tiny model beside its rows read one by one.\n\n"
            + table((*header, "allowed", "right"), lines)
        )

    def _failures(self) -> str:
        failed = [
            f"{section}, {case}: {one['error']}"
            for (section, case), one in self._found.items()
            if "error" in one and not one["error"].startswith("out of memory")
        ]
        return "Not measured: " + "; ".join(failed) + "." if failed else ""


def milliseconds(one: Found) -> str:
    if "error" in one:
        return str(one["error"]).split(":")[0]
    return Spread.of([1000 * seconds for seconds in one["seconds"]]).text(1)


def gib(one: Found) -> str:
    return "" if "error" in one else f"{one['gib']:.2f}"


def right(one: Found) -> str:
    return "yes" if one["right"] else "NO"


def report(raw: Sequence[Found]) -> CaseResult:
    """Return the section made of one or several calls' raw results."""
    results = [result for one in raw for result in one["results"]]
    sizes = TINY if any(one["tiny"] for one in raw) else FULL
    return Report(results, sizes).result(sum(one["seconds"] for one in raw))
