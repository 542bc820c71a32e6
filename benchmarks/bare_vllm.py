"""`python -m benchmarks.bare_vllm JOB OUT`: what vLLM alone does, in a process of its own.

JOB is JSON: `engine` (keyword arguments of `vllm.LLM`), `prompts` (token ids) and `sampling`
(keyword arguments of `SamplingParams`, one each). OUT gets the seconds of importing and loading,
those of one `LLM.generate` over all prompts, and the completions' token ids.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main(job: Path, out: Path) -> None:
    """The prompts are tokenized already: that is not in the seconds."""
    start = time.monotonic()
    from vllm import LLM, SamplingParams

    asked = json.loads(job.read_text())
    llm = LLM(**asked["engine"])
    params = [SamplingParams(**sampling) for sampling in asked["sampling"]]
    prompts = [{"prompt_token_ids": ids} for ids in asked["prompts"]]
    loaded = time.monotonic()
    outputs = llm.generate(prompts, params, use_tqdm=False)
    done = time.monotonic()
    answers = [list(output.outputs[0].token_ids) for output in outputs]
    told = {"load": loaded - start, "generate": done - loaded, "token_ids": answers}
    out.write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
