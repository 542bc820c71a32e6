"""Any task of lm-evaluation-harness by name (`mmlu`, `gsm8k`, ...), or of a folder of task files.

The harness makes the prompts, asks the model (with the task's own generation settings) and scores;
a task whose data is not local has to be reachable. The raw responses are kept with what every
filter and metric of the task makes of them, so that another choice of these asks no model.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import Field, field_validator

from raft_core.config.base import FrozenConfig, digest_file
from raft_core.evaluation.benchmarks.base import Item

VERSION: Final = 1
LONGEST_PATH = 4096
# What decides a score and no response.
HARNESS_SCORING = ("metric", "filter")


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
    def domain_files(self) -> tuple[str, ...]:
        """The files of the prepared domain that its rows come from."""
        return ()

    def for_validation(self) -> None:
        return None

    def items(self, prepared: Path) -> list[Item]:
        """None: the harness asks."""
        return []

    def identity(self) -> dict[str, Any]:
        """The task's files count by content, and the harness by its version.

        What a task fetches from the hub is the hub's of the day; scores.json tells the digest of
        the rows that were asked.
        """
        own = self.model_dump(exclude={"tasks_folder"}) | {"harness": version("lm_eval")}
        if self.tasks_folder is None:
            return own
        root = Path(self.tasks_folder).expanduser()
        files = sorted(path for path in root.rglob("*") if path.is_file())
        digests = {str(f.relative_to(root)): digest_file(f) for f in files}
        data = {name: digest_file(name) for file in files for name in data_files(file)}
        return own | {"files": digests} | ({"data": sorted(data.values())} if data else {})


def data_files(file: Path) -> list[str]:
    """The files of this machine that a task file reads its rows from."""
    if file.suffix not in {".yaml", ".yml"}:
        return []
    tree = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    texts = [event.value for event in scalars(tree)]
    return [text for text in texts if len(text) < LONGEST_PATH and Path(text).is_file()]


def scalars(node: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    """All plain values of a YAML tree, whatever they are tagged with; nothing is built of them."""
    if isinstance(node, yaml.ScalarNode):
        yield node
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from scalars(item)
    elif isinstance(node, yaml.MappingNode):
        for _, item in node.value:
            yield from scalars(item)
