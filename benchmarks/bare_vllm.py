"""Measure vLLM alone: `python -m benchmarks.bare_vllm JOB OUT`, in a process of its own.

JOB is JSON: `engine` (keyword arguments of `vllm.LLM`), `prompts` (texts as the chat template gives
them) and `sampling` (keyword arguments of `SamplingParams`, one each). OUT gets the seconds of
importing and loading, those of one `LLM.generate` over all prompts, and the tokens of the answers.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

PLAIN = {"add_special_tokens": False}  # the template has put them in


def main(job: Path, out: Path) -> None:
    """Generate the job's answers; the parameters are made before the clock runs."""
    start = time.monotonic()
    from vllm import LLM, SamplingParams

    asked = json.loads(job.read_text())
    llm = LLM(**asked["engine"])
    params = [SamplingParams(**sampling) for sampling in asked["sampling"]]
    loaded = time.monotonic()
    outputs = llm.generate(asked["prompts"], params, use_tqdm=False, tokenization_kwargs=PLAIN)
    done = time.monotonic()
    answers = [list(output.outputs[0].token_ids) for output in outputs]
    told = {"load": loaded - start, "generate": done - loaded, "token_ids": answers}
    out.write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
