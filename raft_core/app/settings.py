"""All settings: a profile, a domain overlay on it, and flat overrides on both.

Every stage owns its part; this composes them and turns any mistake into one clear error. Importing
it loads neither torch nor vllm.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError, model_validator

from raft_core.config.base import FrozenConfig, ModelRef, Seed, local_path
from raft_core.config.layers import (
    Layer,
    cut,
    deep_merge,
    name_of,
    parse_override,
    read_yaml,
    readable,
    require_no_secret,
)
from raft_core.config.runtime import RuntimeConfig
from raft_core.distill.config import (
    DistillConfig,
    DistillStage,
    LearningRate,
    MethodConfig,
    PruneStage,
)
from raft_core.engines.base import EmbedderConfig, GeneratorConfig, OpenAIConfig
from raft_core.errors import InputError
from raft_core.evaluation.config import EvaluateConfig, EvaluateStage, RespondStage
from raft_core.evaluation.gate import GateConfig
from raft_core.evaluation.independence import (
    PanelMember,
    overlap_warnings,
    panel_members,
    self_grading_warnings,
)
from raft_core.evaluation.promote import PromoteStage, PromotionConfig
from raft_core.evaluation.report_config import ReportStage
from raft_core.execution.shards import WHOLE, Shard
from raft_core.facts.guard import GuardConfig
from raft_core.lineage.config import LineageConfig, LineageStage
from raft_core.refine.embed import EmbedStage
from raft_core.refine.filter import FilterConfig, FilterStage
from raft_core.refine.fuse import FuseConfig, FuseStage
from raft_core.refine.prepare import (
    DomainConfig,
    PrepareConfig,
    PrepareStage,
)
from raft_core.refine.rewrite import RewriteConfig, RewriteStage

# Method names appear in names of stages, runs and files.
MethodName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
DEFAULT_DOMAINS = {"mini": "law"}
# Inside the package where it was installed from a wheel, beside it in a checkout.
INSTALLED_CONF = Path(__file__).resolve().parents[1] / "conf"
CONF = INSTALLED_CONF if INSTALLED_CONF.is_dir() else INSTALLED_CONF.parents[1] / "conf"


class Settings(FrozenConfig):
    """All settings of a run of the pipeline."""

    profile: str
    domain: DomainConfig
    engine: GeneratorConfig = Field(
        description="the instruction-tuned base (student, teacher, rewriter) and how it generates"
    )
    fusion_engine: GeneratorConfig | None = Field(
        None, description="the model that fuses; the base where absent"
    )
    encoder: EmbedderConfig
    seed: Seed = 0
    prepare: PrepareConfig = PrepareConfig()
    rewrite: RewriteConfig = RewriteConfig()
    filter: FilterConfig = FilterConfig()
    guard: GuardConfig | None = Field(
        GuardConfig(),
        description="the facts that rewrites and fused answers must keep; null: the paper's filter",
    )
    fuse: FuseConfig
    lineage: LineageConfig = LineageConfig()
    distill: DistillConfig = DistillConfig()
    methods: dict[MethodName, MethodConfig] = Field(min_length=1)
    learning_rate_grid: tuple[LearningRate, ...] = Field(
        (), description="what the methods' learning rates were chosen from, on validation splits"
    )
    evaluate: EvaluateConfig
    gate: GateConfig = GateConfig()
    promotion: PromotionConfig = PromotionConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    @model_validator(mode="after")
    def _references_exist(self) -> Settings:
        known = self.evaluate.benchmarks
        for name in ("domain", *self.evaluate.retained, self.gate.benchmark):
            if name not in known:
                raise ValueError(f"evaluate.benchmarks has no '{name}'; it has {sorted(known)}")
        for name in self.evaluate.retained:
            if known[name].base_only:
                raise ValueError(f"evaluate.retained: only the base answers '{name}'")
        if "base" in self.methods:
            raise ValueError("methods: 'base' is the name of the model that all start from")
        if isinstance(self.engine, OpenAIConfig):
            raise ValueError("engine must load weights: kind vllm or transformers")
        require_named_endpoints(self, self.runtime)
        return self

    @property
    def base(self) -> ModelRef:
        """The instruction-tuned model that everything starts from."""
        assert not isinstance(self.engine, OpenAIConfig)
        return self.engine.model

    def on_validation(self) -> Settings:
        """Return the same run, measured on validation rows, for choosing settings.

        Raises:
            InputError: a benchmark that is to be retained has none.
        """
        candidates = {n: b.for_validation() for n, b in self.evaluate.benchmarks.items()}
        benchmarks = {name: b for name, b in candidates.items() if b is not None}
        for name in self.evaluate.retained:
            if name not in benchmarks:
                raise InputError(
                    f"evaluate.benchmarks.{name} has no 'validation' rows; without them settings "
                    "would be chosen by domain accuracy alone"
                )
        evaluate = self.evaluate.model_copy(update={"benchmarks": benchmarks})
        return self.model_copy(update={"evaluate": evaluate})

    def with_learning_rate(self, method: str, learning_rate: float) -> Settings:
        """Return the same run with one method alone, at this learning rate."""
        chosen = self.methods[method].model_copy(update={"learning_rate": learning_rate})
        return self.model_copy(update={"methods": {method: chosen}})

    def prepare_stage(self) -> PrepareStage:
        """Return the configuration of `prepare`."""
        return PrepareStage(domain=self.domain, prepare=self.prepare, encoder=self.encoder)

    def rewrite_stage(self, shard: Shard) -> RewriteStage:
        """Return the configuration of one shard of `rewrite`."""
        return RewriteStage(
            prompt=self.rewrite.prompt,
            sampling=self.rewrite.sampling,
            generator=self.engine,
            shard=shard,
        )

    def embed_stage(self, shard: Shard = WHOLE) -> EmbedStage:
        """Return the configuration of one shard of `embed`."""
        return EmbedStage(encoder=self.encoder, views=self.filter.views, shard=shard)

    def embeds_ahead(self) -> bool:
        """Return whether vectors are made while rewrites are written.

        On the cores that write, both would only take turns.
        """
        runtime = self.runtime
        if runtime.task_runner == "ray" or not runtime.cache_embeddings:
            return False
        if runtime.embed_ahead is None:
            return runtime.device != "cpu" or self.engine.kind == "openai"
        return runtime.embed_ahead

    def filter_stage(self) -> FilterStage:
        """Return the configuration of `filter`."""
        return FilterStage(filter=self.filter, encoder=self.encoder, guard=self.guard)

    def fuse_stage(self, shard: Shard = WHOLE) -> FuseStage:
        """Return the configuration of one shard of `fuse`."""
        generator = self.fusion_engine or self.engine
        return FuseStage(generator=generator, fuse=self.fuse, guard=self.guard, shard=shard)

    def lineage_stage(self) -> LineageStage:
        """Return the configuration of `lineage`."""
        return LineageStage(domain=self.domain.name, lineage=self.lineage)

    def distill_stage(self, method: str) -> DistillStage:
        """Return the configuration of a method's training; pruning is a stage of its own."""
        return DistillStage(
            model=self.base,
            method=self.methods[method].model_copy(update={"prune": None}),
            distill=self.distill,
            seed=self.seed,
        )

    def prune_stage(self, method: str) -> PruneStage | None:
        """Return the configuration of `prune` after a method's training; None for no pruning."""
        prune = self.methods[method].prune
        return None if prune is None else PruneStage(model=self.base, prune=prune)

    def respond_stage(self, *, trained: bool) -> RespondStage:
        """Return the configuration of `respond` for the base or a trained model."""
        return RespondStage(
            generator=self.engine,
            sampling=self.evaluate.sampling,
            benchmarks=self._benchmarks(trained),
        )

    def evaluate_stage(self, *, trained: bool) -> EvaluateStage:
        """Return the configuration of `evaluate` for the base or a trained model."""
        return EvaluateStage(panel=self.evaluate.panel, benchmarks=self._benchmarks(trained))

    def panel_members(self) -> tuple[PanelMember, ...]:
        """Return the panel's judges, each with its model's parts in making the answers."""
        fusion = self.fusion_engine or self.engine
        return panel_members(self.evaluate.panel, self.fuse, fusion, self.base)

    def panel_warnings(self) -> list[str]:
        """Return the reasons not to believe the judges of this run."""
        fusion = self.fusion_engine or self.engine
        grading = self_grading_warnings(self.fuse, fusion)
        return overlap_warnings(self.panel_members()) + grading

    def report_stage(self) -> ReportStage:
        """Return the configuration of `report`."""
        benchmarks = self.evaluate.benchmarks.items()
        return ReportStage(
            domain=self.domain.name,
            learning_rates={name: m.learning_rate for name, m in self.methods.items()},
            benchmarks=tuple(name for name, b in benchmarks if not b.base_only),
            retained=self.evaluate.retained,
            tau=self.filter.tau,
            compare=self.evaluate.compare,
            panel=self.panel_members(),
            warnings=tuple(self.panel_warnings()),
        )

    def promote_stage(self) -> PromoteStage:
        """Return the configuration of `promote`."""
        return PromoteStage(promotion=self.promotion, retained=self.evaluate.retained)

    def _benchmarks(self, trained: bool) -> dict[str, Any]:
        """Return the benchmarks that a model answers; the gate reads what the teacher will read."""
        teacher = {"prompt": self.distill.teacher_prompt}
        return {
            name: benchmark.model_copy(update=teacher) if benchmark.kind == "reading" else benchmark
            for name, benchmark in self.evaluate.benchmarks.items()
            if not (trained and benchmark.base_only)
        }


def endpoints_of(value: Any) -> set[str]:
    """Return the names of all endpoints that settings use, wherever they stand."""
    if isinstance(value, OpenAIConfig):
        return {value.endpoint}
    if isinstance(value, BaseModel):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return set().union(*map(endpoints_of, value))
    return set()


def require_named_endpoints(value: Any, runtime: RuntimeConfig) -> None:
    """Require an address for every endpoint that settings use.

    Raises:
        ValueError: one has none.
    """
    for endpoint in sorted(endpoints_of(value)):
        if endpoint not in runtime.endpoints:
            raise ValueError(
                f"runtime.endpoints has no '{endpoint}', which a model asks for; "
                f"it has {sorted(runtime.endpoints)}"
            )


def load_settings(
    profile: str = "mini",
    domain: str | None = None,
    overrides: Iterable[str] = (),
    *,
    data: str | None = None,
    limit: int | None = None,
) -> Settings:
    """Compose `conf/PROFILE.yaml`, `conf/domains/DOMAIN.yaml` and `path.to.field=value` overrides.

    `profile` and `domain` are names under `conf/` or paths of YAML files. `data` replaces the
    domain's data file and `limit` the number of its rows.

    Raises:
        InputError: with the file, the field and the remedy.
    """
    profile_file = conf_file(profile, CONF, "profile")
    layers = [Layer(str(profile_file), read_yaml(profile_file) | {"profile": profile_file.stem})]
    if domain is not None:
        domain_file = conf_file(domain, CONF / "domains", "domain")
        layers.append(Layer(str(domain_file), read_yaml(domain_file)))
    if data is not None:
        own_name = {} if domain else {"name": domain_name(data)}
        layers.append(Layer(f"data {data}", {"domain": own_name | {"data": {"path": data}}}))
    if limit is not None:
        layers.append(Layer(f"limit {limit}", {"domain": {"limit": limit}}))
    layers += [
        Layer(f"setting {cut(name_of(override), 200)}", parse_override(override))
        for override in overrides
    ]
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = deep_merge(merged, layer.values)
    require_no_secret(merged, layers)
    try:
        return Settings.model_validate(with_student(merged, profile_file))
    except ValidationError as error:
        raise InputError(readable(error, layers)) from None


def load_runtime(profile: str = "mini") -> RuntimeConfig:
    """Return the runtime section of a profile alone.

    Raises:
        InputError: the profile or the section is not valid.
    """
    profile_file = conf_file(profile, CONF, "profile")
    values = read_yaml(profile_file).get("runtime", {})
    try:
        return RuntimeConfig.model_validate(values)
    except ValidationError as error:
        raise InputError(readable(error, [Layer(f"{profile_file}, runtime", values)])) from None


def with_student(merged: dict[str, Any], profile: Path) -> dict[str, Any]:
    """Make the student that a profile's `student` names in its `students` the engine's model.

    A model that is set directly wins over it.

    Raises:
        InputError: it is not listed.
    """
    students, chosen = merged.pop("students", None), merged.pop("student", None)
    if students is None and chosen is None:
        return merged
    if not isinstance(students, Mapping) or not isinstance(chosen, str) or chosen not in students:
        known = ", ".join(map(str, students)) if isinstance(students, Mapping) else "none"
        raise InputError(f"{profile}: field 'student': no student '{chosen}'; listed are {known}")
    return deep_merge({"engine": {"model": students[chosen]}}, merged)


def brings_domain(profile: str) -> bool:
    """Return whether a profile names a domain of its own.

    Raises:
        InputError: there is no such profile, or it is not YAML.
    """
    return "domain" in read_yaml(conf_file(profile, CONF, "profile"))


def default_domain(profile: str, data: str | None) -> str | None:
    """Return the profile's default domain, if it has one and no data is named."""
    return DEFAULT_DOMAINS.get(profile) if data is None else None


def domain_name(data: str) -> str:
    """Make a domain's name of the last folder and the name of its data file."""
    path = Path(os.path.abspath(local_path(data, "data")))
    name = re.sub(r"[^a-z0-9]+", "-", f"{path.parent.name}-{path.stem}".lower()).strip("-")[:64]
    return name or f"data-{hashlib.sha256(data.encode()).hexdigest()[:8]}"


def conf_file(name: str, folder: Path, what: str) -> Path:
    """Return the YAML file that a name in `folder`, or a path, stands for.

    Raises:
        InputError: there is none.
    """
    for candidate in (folder / f"{name}.yaml", Path(name)):
        if local_path(candidate, what).is_file():
            return candidate
    known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
    raise InputError(f"{what} '{name}': no {folder / name}.yaml and no such file; known: {known}")
