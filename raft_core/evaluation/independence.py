"""Whether the panel's judges had a part in what they judge.

A model tends to prefer texts that it wrote or chose. Models are compared by the digest of their
files where both are folders, and else by name, since an endpoint tells no more: `Qwen/Qwen3-32B`
and `qwen3-32b` are one model, and so is a quantised copy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from raft_core.config.base import FrozenConfig, ModelRef
from raft_core.engines.base import GeneratorConfig
from raft_core.evaluation.judges import LlmJudge, Panel, judge_names
from raft_core.refine.fuse import FuseConfig
from raft_core.refine.grading import LlmScorer

HUB_CACHE = re.compile(r"models--[^/]+?--([^/]+)/snapshots/")
QUANTISED = re.compile(
    r"-(fp8|fp4|nvfp4|mxfp4|awq|gptq|gguf|int4|int8|w4a16|w8a8|w8a16|bf16|4bit|8bit|bnb)(?=-|$)"
)


class PanelMember(FrozenConfig):
    """A judge as the report names it; `model` is empty for a rule.

    `roles` says what else its model did in the run.
    """

    judge: str
    model: str = ""
    roles: tuple[str, ...] = ()


def panel_members(
    panel: Panel, fuse: FuseConfig, fusion: GeneratorConfig, base: ModelRef
) -> tuple[PanelMember, ...]:
    """The judges in order, each with the parts that its model had in making the answers."""
    parts: list[tuple[str, ModelRef | str]] = [("the base that was trained", base)]
    parts.append(("wrote the fused answers", model_of(fusion)))
    parts += [
        ("graded the fused answers", model_of(scorer.generator))
        for scorer in fuse.judges
        if isinstance(scorer, LlmScorer)
    ]
    members = []
    for name, judge in zip(judge_names(panel), panel, strict=True):
        if not isinstance(judge, LlmJudge):
            members.append(PanelMember(judge=name))
            continue
        model = model_of(judge.generator)
        roles = dict.fromkeys(role for role, other in parts if same_model(model, other))
        members.append(PanelMember(judge=name, model=model_name(model), roles=tuple(roles)))
    return tuple(members)


def overlap_warnings(members: Iterable[PanelMember]) -> list[str]:
    """One sentence where judges had a part in the run, none where the panel is independent."""
    models = [member for member in members if member.model]
    involved = [member for member in models if member.roles]
    if not involved:
        return []
    told = "; ".join(f"{m.judge} ({m.model}): {', '.join(m.roles)}" for m in involved)
    return [
        f"{len(involved)} of the panel's {len(models)} model judges had a part in what they judge "
        f"({told}) and may favour it; name other models under evaluate.panel"
    ]


def self_grading_warnings(fuse: FuseConfig, fusion: GeneratorConfig) -> list[str]:
    """One sentence where nobody but the model that fuses grades what it fused."""
    alone = all(
        isinstance(scorer, LlmScorer) and same_model(model_of(scorer.generator), model_of(fusion))
        for scorer in fuse.judges
    )
    if not alone:
        return []
    return [
        f"the model that fuses ({model_name(model_of(fusion))}) alone grades what it fused; name "
        "other judges too under fuse.judges"
    ]


def model_of(generator: GeneratorConfig) -> ModelRef | str:
    """The model that a generator loads, or the name that it asks an endpoint for."""
    return generator.model


def model_name(model: ModelRef | str) -> str:
    """What a model is called: the last part of its path or hub id, as it is written."""
    path = model if isinstance(model, str) else model.path
    if cached := HUB_CACHE.search(path + "/"):
        return cached.group(1)
    if path.startswith("mini:"):
        return path
    return path.rstrip("/").rpartition("/")[2]


def same_model(one: ModelRef | str, other: ModelRef | str) -> bool:
    """Whether two generators answer with the same weights, as far as can be told."""
    if isinstance(one, ModelRef) and isinstance(other, ModelRef):
        folders = one.local_folder(), other.local_folder()
        if None not in folders:
            return folders[0] == folders[1] or one.identity() == other.identity()
    return _plain_name(one) == _plain_name(other)


def _plain_name(model: ModelRef | str) -> str:
    """`Qwen/Qwen3-32B-FP8`, `qwen3:32b` -> `qwen3-32b`."""
    words = re.sub(r"[^a-z0-9.]+", "-", model_name(model).lower()).strip("-")
    return QUANTISED.sub("", words)
