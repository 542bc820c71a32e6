"""Training runs where neither vLLM nor the orchestration is installed, as on a bare GPU machine."""

from __future__ import annotations

import subprocess
import sys

ABSENT = ("vllm", "prefect", "mlflow", "faiss", "sentence_transformers")


def test_training_stage_imports_neither_vllm_nor_the_orchestration() -> None:
    code = (
        "import sys; import raft_core.distill.distill, raft_core.distill.prune;"
        f"print(*sorted(set({ABSENT!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
