"""Any task of lm-evaluation-harness by name (`mmlu`, `gsm8k`, ...), or of a folder of task files.

The harness makes the prompts, asks the model and scores; a task whose data is not local has to be
reachable. Its raw responses and verdicts are kept like those of all other benchmarks.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, field_validator

from raft_core.config import FrozenConfig, digest_file
from raft_core.evaluation.benchmarks.base import Item

VERSION: Final = 1


class HarnessBenchmark(FrozenConfig):
    """One task, or a group of tasks whose rows count together.

    `metric` must be right or wrong for each row; by default the task's own first one that is.
    """

    kind: Literal["lm_eval"] = "lm_eval"
    version: Literal[1] = VERSION
    task: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    tasks_folder: str | None = Field(None, description="where task files (YAML) of your own lie")
    num_fewshot: Annotated[int, Field(ge=0)] | None = None
    limit: Annotated[int, Field(gt=0)] | None = Field(None, description="rows of each task")
    metric: str | None = None
    filter: str | None = Field(None, description="of the task's filters; default: its first")
    chat_template: bool = True
    base_only: bool = False

    @field_validator("tasks_folder")
    @classmethod
    def _exists(cls, folder: str | None) -> str | None:
        if folder is not None and not Path(folder).expanduser().is_dir():
            raise ValueError(f"no folder '{folder}'")
        return folder

    @property
    def needs_domain(self) -> bool:
        """Whether its rows are those of the prepared domain."""
        return False

    def for_validation(self) -> None:
        return None

    def items(self, prepared: Path) -> list[Item]:
        """None: the harness asks."""
        return []

    def identity(self) -> dict[str, Any]:
        """The task's files count by content, and the harness by its version."""
        own = self.model_dump(exclude={"tasks_folder"}) | {"harness": version("lm_eval")}
        if self.tasks_folder is None:
            return own
        root = Path(self.tasks_folder).expanduser()
        files = sorted(path for path in root.rglob("*") if path.is_file())
        return own | {"files": {str(f.relative_to(root)): digest_file(f) for f in files}}
