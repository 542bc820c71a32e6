"""Every shipped file parses; a mistake is one clear error; keys fork where they should."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from raft_core.app.checks import checked
from raft_core.app.pipeline import STAGES
from raft_core.app.settings import CONF, Settings, load_settings
from raft_core.config import base as config
from raft_core.data import sources as data
from raft_core.engines.base import OpenAIConfig, VllmConfig
from raft_core.errors import InputError

PROFILES = sorted(path.stem for path in CONF.glob("*.yaml"))
DOMAINS = sorted(path.stem for path in (CONF / "domains").glob("*.yaml"))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("domain", DOMAINS)
def test_shipped_profile_and_domain_parse(profile: str, domain: str) -> None:
    settings = load_settings(profile, domain)
    assert settings.profile == profile
    assert settings.domain.name == domain


def test_gpu_profile_is_the_papers_recipe() -> None:
    settings = load_settings("gpu", "law")
    distill = settings.distill
    assert (distill.epochs, distill.batch_size, distill.weight_decay) == (3, 16, 0.01)
    assert (distill.top_k, distill.temperature, distill.balance.beta) == (512, 1.5, 0.9)
    assert {method.learning_rate for method in settings.methods.values()} == {5e-6}
    assert (settings.filter.tau, settings.filter.view) == (0.8, "answer")
    assert settings.fuse.early_stop == 0.8
    assert isinstance(settings.fusion_engine, VllmConfig)
    assert settings.fusion_engine.model.path == "Qwen/Qwen3-32B"
    judges = [judge.generator for judge in settings.evaluate.panel if judge.kind == "llm"]
    assert [j.model for j in judges if isinstance(j, OpenAIConfig)] == [
        "gpt-oss-120b",
        "deepseek-v3.2",
        "qwen3-32b",
    ]


@pytest.mark.parametrize(
    ("student", "path"),
    [
        ("smollm3-3b", "HuggingFaceTB/SmolLM3-3B"),
        ("llama-3.2-3b", "meta-llama/Llama-3.2-3B-Instruct"),
        ("phi-4-mini", "microsoft/Phi-4-mini-instruct"),
    ],
)
def test_gpu_profile_student_by_name(student: str, path: str) -> None:
    assert load_settings("gpu", "law", [f"student={student}"]).base.path == path


def test_gpu_profile_model_set_directly_wins_over_the_student() -> None:
    assert load_settings("gpu", "law", ["engine.model.path=/my/model"]).base.path == "/my/model"


def test_domain_overlay_and_overrides_last_one_wins() -> None:
    settings = load_settings("mini", "web", ["filter.tau=0.6", "filter.tau=0.7"], limit=9)
    assert (settings.filter.tau, settings.domain.name, settings.domain.limit) == (0.7, "web", 9)


def test_data_alone_names_the_domain_after_the_file() -> None:
    settings = load_settings("mini", data="/some/Folder X/Train.jsonl")
    assert settings.domain.name == "folder-x-train"
    assert settings.domain.data.path == "/some/Folder X/Train.jsonl"


BAD = [
    (["filter.tau=1.5"], r"setting filter\.tau: field 'filter\.tau'.*less than.*1\.5"),
    (["filter.tua=0.5"], r"setting filter\.tua: field 'filter\.tua': no such field"),
    (["filter"], r"override 'filter': write it as section\.field=value"),
    (["distill.batch_size=10", "distill.gradient_accumulation=4"], "no multiple"),
    (["engine.kind=magic"], "field 'engine'.*magic"),
    (["evaluate.retained=[nothing]"], "evaluate.benchmarks has no 'nothing'"),
    (["engine={kind: openai, endpoint: e, model: m}"], "must load weights"),
    (["evaluate.panel=[]"], "evaluate.panel"),
    (["evaluate.retained=[reading]"], "only the base answers 'reading'"),
    (["methods.base={targets: raw, learning_rate: 1}"], "'base' is the name of the model"),
    (["rewrite.prompt=fuse.v1"], r"'rewrite\.prompt'.*placeholders.*rewrite.*not"),
    (["student=other"], r"mini\.yaml: field 'student': no student 'other'"),
    (
        ["fusion_engine={kind: openai, endpoint: far, model: m}"],
        "runtime.endpoints has no 'far'",
    ),
]


@pytest.mark.parametrize(("overrides", "message"), BAD)
def test_bad_setting_one_error_names_source_field_and_remedy(
    overrides: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_settings("mini", "law", overrides)


def test_bad_field_in_a_file_error_names_the_file(tmp_path: Path) -> None:
    profile = tmp_path / "own.yaml"
    profile.write_text((CONF / "mini.yaml").read_text() + "\nfliter: {tau: 0.8}\n")
    with pytest.raises(InputError, match=r"own\.yaml: field 'fliter': no such field"):
        load_settings(str(profile), "law")


def test_broken_yaml_error_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("a: [1")
    with pytest.raises(InputError, match=r"own\.yaml: not readable as YAML"):
        load_settings(str(tmp_path / "own.yaml"), "law")


def test_unknown_names_error_lists_the_known() -> None:
    with pytest.raises(InputError, match=r"profile 'no'.*known: gpu, mini"):
        load_settings("no", "law")
    with pytest.raises(InputError, match=r"domain 'no'.*known: business, culture"):
        load_settings("mini", "no")


def test_import_settings_loads_neither_torch_nor_vllm_nor_transformers() -> None:
    code = (
        "import sys, raft_core.app.settings; "
        "heavy = ('torch', 'vllm', 'transformers', 'prefect', 'fsspec', 's3fs'); "
        "print([m for m in heavy if m in sys.modules])"
    )
    root = str(CONF.parent)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def keys(settings: Settings) -> dict[str, str]:
    """The key of every stage that training and evaluation start from, inputs left out."""
    shard = {"index": 0, "of": 1}
    rewrite_config = STAGES["rewrite"].config.model_fields["shard"].annotation
    assert rewrite_config is not None
    configs = {
        "prepare": settings.prepare_stage(),
        "rewrite": settings.rewrite_stage(rewrite_config(**shard)),
        "filter": settings.filter_stage(),
        "fuse": settings.fuse_stage(),
        "distill": settings.distill_stage("raft"),
        "respond": settings.respond_stage(trained=True),
        "evaluate": settings.evaluate_stage(trained=True),
    }
    return {
        name: STAGES[name].spec(config, {}, settings.runtime).key
        for name, config in configs.items()
    }


@pytest.mark.parametrize(
    "override",
    [
        "runtime.threads_per_stage=7",
        "runtime.parallel_stages=1",
        "runtime.device=auto",
        "runtime.home=/elsewhere",
        "runtime.store=s3://bucket/prefix",
        "runtime.embed_batch_size=3",
        "runtime.vllm.max_num_seqs=2",
        "runtime.vllm.cpu_kv_cache_gib=2",
    ],
)
def test_runtime_change_keeps_every_key(override: str) -> None:
    assert keys(load_settings("mini", "law", [override])) == keys(load_settings("mini", "law"))


@pytest.mark.parametrize(
    ("override", "forked"),
    [
        ("filter.tau=0.7", {"filter"}),
        ("rewrite.prompt=rewrite.v1", {"rewrite"}),
        ("rewrite.sampling.seed=1", {"rewrite"}),
        ("fuse.rounds=2", {"fuse"}),
        ("distill.top_k=64", {"distill"}),
        ("seed=1", {"distill"}),
        ("methods.raft.learning_rate=0.1", {"distill"}),
        ("evaluate.panel=[{kind: contains}]", {"evaluate"}),
        ("evaluate.sampling.max_tokens=9", {"respond"}),
        ("domain.limit=99", {"prepare"}),
    ],
)
def test_identity_change_forks_its_stages_and_no_other(override: str, forked: set[str]) -> None:
    before, after = (
        keys(load_settings("mini", "law")),
        keys(load_settings("mini", "law", [override])),
    )
    assert {name for name in before if before[name] != after[name]} == forked


def test_reading_benchmark_reads_what_the_teacher_will_read(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("Know: {reference} Say: {question}")
    settings = load_settings("mini", "law", [f"distill.teacher_prompt={tmp_path}/own.txt"])
    reading = settings.respond_stage(trained=False).benchmarks["reading"]
    assert reading.prompt == settings.distill.teacher_prompt


def checked_with(tmp_path: Path, benchmark: str, *rows: object) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    checked(load_settings("mini", "law", [f"evaluate.benchmarks.{benchmark}.data={file}"]))


INSTRUCTION = {"prompt": "p", "instruction_id_list": ["startend:end_checker"]}
BAD_BENCHMARKS = [
    ("general", (), "evaluate.benchmarks.general: its data has no rows"),
    (
        "general",
        ({"question": "q", "answer": "a", "expected": "Paris"},),
        "row 1: field 'expected' must be a list",
    ),
    (
        "instructions",
        (INSTRUCTION | {"kwargs": [None]},),
        "'startend:end_checker' takes end_phrase, and has none",
    ),
    ("instructions", (INSTRUCTION | {"kwargs": ["x"]},), "'kwargs' objects"),
    (
        "instructions",
        ({"prompt": "p", "instruction_id_list": ["no:such"], "kwargs": [{}]},),
        "no checker for no:such",
    ),
    ("reading", ({"reference": "r"},), "field 'question' is missing"),
]


@pytest.mark.parametrize(("benchmark", "rows", "message"), BAD_BENCHMARKS)
def test_bad_benchmark_row_found_before_any_model_loads(
    tmp_path: Path, benchmark: str, rows: tuple[object, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        checked_with(tmp_path, benchmark, *rows)


def test_endpoint_without_its_key_found_before_any_model_loads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    overrides = [
        "fusion_engine={kind: openai, endpoint: far, model: m}",
        "runtime.endpoints.far={base_url: 'http://127.0.0.1:9', api_key_env: NO_SUCH_KEY}",
    ]
    with pytest.raises(InputError, match="NO_SUCH_KEY is not set"):
        checked(load_settings("mini", "law", overrides))


def test_domain_name_of_a_path_without_latin_letters() -> None:
    name = load_settings("mini", data="/数据/训练.jsonl").domain.name
    assert name.startswith("data-")


def test_key_does_not_depend_on_where_the_data_lies(tmp_path: Path) -> None:
    for name in ("one.jsonl", "two.jsonl"):
        (tmp_path / name).write_text('{"question": "q", "answer": "a"}')
    one, two = (load_settings("mini", data=str(tmp_path / f"{n}.jsonl")) for n in ("one", "two"))
    assert keys(one) == keys(two)


def test_on_validation_benchmark_without_validation_rows_error() -> None:
    with pytest.raises(InputError, match="general has no 'validation' rows"):
        load_settings("gpu", "law").on_validation()


def test_pinned_hub_model_gets_its_commit_local_one_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (config, data):
        monkeypatch.setattr(
            module, "hub_commit", lambda name, revision, *_: f"{name}@{revision}", raising=False
        )
    settings = config.pinned(load_settings("gpu", "law"))
    prompts = settings.evaluate.benchmarks["instructions"].data
    assert prompts.revision == "google/IFEval@main"
    assert settings.engine.model.revision == "HuggingFaceTB/SmolLM3-3B@main"
    assert config.pinned(load_settings("mini", "law")) == load_settings("mini", "law")


def test_on_validation_measures_no_test_row() -> None:
    settings = load_settings("mini", "law").on_validation()
    benchmarks = settings.evaluate.benchmarks
    assert benchmarks["domain"].split == "validation"
    paths = {b.data.path for b in benchmarks.values() if getattr(b, "data", None)}
    assert paths == {"mini:general-validation", "mini:instructions-validation"}


@pytest.mark.parametrize(
    ("pattern", "told"), [("x", "has no group"), ("'('", "is no regular expression")]
)
def test_cluster_pattern_that_names_no_fact_error(pattern: str, told: str) -> None:
    with pytest.raises(InputError, match=f"evaluate.compare.cluster_pattern.*{told}"):
        load_settings("mini", "law", [f"evaluate.compare.cluster_pattern={pattern}"])


def test_report_settings_fork_the_report_alone() -> None:
    plain = load_settings("mini", "law")
    other = load_settings("mini", "law", ["evaluate.compare.baseline=sdft"])
    for config_of in (
        lambda s: s.prepare_stage(),
        lambda s: s.fuse_stage(),
        lambda s: s.distill_stage("raft"),
        lambda s: s.respond_stage(trained=True),
        lambda s: s.evaluate_stage(trained=True),
    ):
        assert config.fingerprint(config_of(plain)) == config.fingerprint(config_of(other))
    assert config.fingerprint(plain.report_stage()) != config.fingerprint(other.report_stage())
