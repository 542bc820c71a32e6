"""Runtime settings: everything here may change without changing a result or a stage key."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from raft_core.config.base import FrozenConfig, is_installed, local_path
from raft_core.config.secrets import EndpointUrl, PlainUrl, has_secret
from raft_core.errors import InputError

Positive = Annotated[int, Field(gt=0)]
Module = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")]
SERVER_NOTE = "mlflow-url"
LOGIN_FILE = "login"
# Without these, glibc maps and unmaps every large tensor anew; read when a process starts.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}


class VllmRuntime(FrozenConfig):
    """Memory and parallelism of an in-process vLLM engine."""

    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    beside_training: Annotated[float, Field(gt=0, le=1)] = Field(
        0.3, description="share of the GPU's memory for an engine that draws rollouts in training"
    )
    cpu_kv_cache_gib: Annotated[float, Field(gt=0)] = 1
    tensor_parallel_size: Positive = 1
    max_num_seqs: Positive = 256
    max_num_batched_tokens: Positive | None = None
    enforce_eager: bool = False


class EndpointBudget(FrozenConfig):
    """The most that one stage spends at an endpoint; null means no limit.

    The budget is checked before every request. Requests in flight are waited for, so tokens and
    seconds may be exceeded by what `concurrency` requests take. Every shard is a stage of its own.
    """

    requests: Positive | None = Field(None, description="HTTP requests, retries included")
    tokens: Positive | None = Field(
        None, description="of prompts and completions, as the endpoint counts them in `usage`"
    )
    seconds: Annotated[float, Field(gt=0)] | None = Field(
        None, description="of waiting for the endpoint"
    )


class EndpointRuntime(FrozenConfig):
    """Where an OpenAI-compatible endpoint listens and how hard it may be driven."""

    base_url: EndpointUrl
    api_key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = Field(
        None, description="the environment variable that holds the key, never the key itself"
    )
    concurrency: Positive = 16
    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    max_retries: Annotated[int, Field(ge=0)] = 4
    max_failed_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.05,
        description="of one batch of requests, those that the cache answers included; above it "
        "the stage stops with the error",
    )
    budget: EndpointBudget = EndpointBudget()


class Limit(FrozenConfig):
    """Shares at which a warning is given and at which training stops; null means never."""

    warn: Annotated[float, Field(ge=0, le=1)] | None = None
    stop: Annotated[float, Field(ge=0, le=1)] | None = None


class HealthLimits(FrozenConfig):
    """Limits beyond which a training that distills is unhealthy; all are shares from 0 to 1.

    Training stops, with a checkpoint, once a share was at least `stop` at `patience` logged steps
    in a row. Missing fields of a limit take their defaults.
    """

    truncated: Limit = Field(
        Limit(warn=0.5, stop=0.95), description="rollouts that reach the length limit"
    )
    repeated: Limit = Field(
        Limit(warn=0.3, stop=0.8), description="runs of four tokens that a rollout said before"
    )
    leaking: Limit = Field(
        Limit(warn=0.02, stop=0.5), description="rollouts that speak of references or rewriting"
    )
    outside_k: Limit = Field(
        Limit(warn=0.6, stop=0.95), description="the student's probability outside the top K"
    )
    collapsed: Limit = Field(
        Limit(warn=0.98, stop=0.999), description="loss of the student's first logged entropy"
    )
    clamped: Limit = Field(
        Limit(warn=1), description="steps at which lambda, before its ramp, is at its maximum"
    )
    patience: Positive = 3

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        complete = {}
        for name, value in given.items():
            default = cls.model_fields[name].default if name in cls.model_fields else None
            if isinstance(value, dict) and isinstance(default, Limit):
                value = default.model_dump() | value
            complete[name] = value
        return complete


class TrainingRuntime(FrozenConfig):
    """How one machine trains: in `processes` processes, one per device."""

    save_every: Positive = Field(
        100,
        description="optimizer steps between checkpoints; rounded up to whole `distill.log_every`",
    )
    processes: Positive = 1
    shard: bool = Field(
        True,
        description="several processes split weights, gradients and optimizer state (FSDP); "
        "otherwise each holds all of them",
    )
    prefix_cache_gib: Annotated[float, Field(ge=0)] = Field(
        4.0,
        description="host memory for keys and values of the teacher's prompts, which are read once "
        "for all epochs; rows beyond it are read at every step",
    )
    graph_rollouts: bool = Field(
        True,
        description="on CUDA, replay a captured graph for every token of a rollout: the tokens of "
        "decoding without, but for rounding. Its keys and values stay in memory; a model that "
        "cannot be captured is decoded without",
    )
    health: HealthLimits = HealthLimits()


class RuntimeConfig(FrozenConfig):
    """How one machine runs the stages."""

    home: str = Field(
        ".raft", description="store, completions, vectors, MLflow database and Prefect's own state"
    )
    store: PlainUrl | None = Field(
        None,
        description="where artifacts are kept: a folder, or an fsspec URL such as "
        "s3://bucket/prefix that machines share; default: below home",
    )
    mlflow_uri: PlainUrl | None = Field(
        None, description="default: the environment's MLFLOW_TRACKING_URI, or SQLite below home"
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads_per_stage: Positive = 1
    parallel_stages: Positive = 1
    preload: tuple[Module, ...] = Field(
        (),
        description="modules to import once for all stages, which are then forked; none: every "
        "stage is a new interpreter. With device `cpu` alone: CUDA does not survive a fork",
    )
    task_runner: Literal["threads", "ray"] = Field(
        "threads", description="where shards of rewriting and fusing run: here, or on a Ray cluster"
    )
    ray_address: PlainUrl | None = Field(
        None, description="the cluster, such as ray://head:10001; default: one of this machine"
    )
    pools: dict[str, str] = Field(
        {"distill": "raft-gpu"},
        description="stage -> the Prefect work pool that runs it, where it has a worker online; "
        "all else runs where the flow runs",
    )
    cache_generations: bool = Field(
        True, description="look completions up in home/generations.sqlite before generating them"
    )
    cache_embeddings: bool = Field(
        True, description="look vectors up in home/embeddings.sqlite before embedding texts"
    )
    embed_ahead: bool | None = Field(
        None,
        description="embed what the filter compares while rows are still rewritten; default: "
        "where writing leaves a processor to it, on a GPU or at an endpoint",
    )
    embed_batch_size: Positive = 64
    evaluation_batch_size: Positive = 256
    vllm: VllmRuntime = VllmRuntime()
    training: TrainingRuntime = TrainingRuntime()
    endpoints: dict[str, EndpointRuntime] = {}

    @field_validator("preload")
    @classmethod
    def _leave_missing_vllm_out(cls, modules: tuple[str, ...]) -> tuple[str, ...]:
        """Let a profile whose engine is `auto` run without vLLM."""
        has_vllm = is_installed("vllm")
        return tuple(m for m in modules if has_vllm or m.partition(".")[0] != "vllm")

    @property
    def home_folder(self) -> Path:
        """The absolute home folder; RAFT_HOME, if set, wins over the field."""
        return local_path(os.environ.get("RAFT_HOME") or self.home, "runtime.home").resolve()

    @property
    def store_address(self) -> str:
        """The store's folder or URL; RAFT_STORE, if set, wins over the field."""
        default = self.store or str(self.home_folder / "store")
        return os.environ.get("RAFT_STORE") or default

    @property
    def tracking_uri(self) -> str:
        """MLflow's server, if one is named or was started here, else its SQLite file."""
        given = self.mlflow_uri or os.environ.get("MLFLOW_TRACKING_URI")
        if not given and self.server_note.is_file():
            given = self.server_note.read_text().strip()
        return given or f"sqlite:///{self.home_folder / 'mlflow.db'}"

    @property
    def server_note(self) -> Path:
        """The file with the address of the MLflow server that `make up` started for this home."""
        return self.home_folder / "server" / SERVER_NOTE

    @property
    def login_file(self) -> Path:
        """The file with the login of the servers that `make up` and `make ui` start here."""
        return self.home_folder / "server" / LOGIN_FILE

    def addresses(self) -> dict[str, str]:
        """Return the addresses of store and MLflow, for a machine without settings of its own.

        An address that holds a password or a key is left out.
        """
        told = {"store": self.store_address, "mlflow_uri": self.tracking_uri}
        return {name: url for name, url in told.items() if "@" not in url and not has_secret(url)}

    @property
    def completions_file(self) -> Path:
        """The cache of completions."""
        return self.home_folder / "generations.sqlite"

    @property
    def embeddings_file(self) -> Path:
        """The cache of vectors."""
        return self.home_folder / "embeddings.sqlite"

    @property
    def forks_stages(self) -> bool:
        """Whether stages are forked from a server with the preloaded modules."""
        return bool(self.preload) and self.device == "cpu"

    def require_modules(self) -> None:
        """Require that the packages of `preload` are installed.

        Whether they hold the modules shows when those load.

        Raises:
            InputError: one is not installed.
        """
        for module in self.preload if self.forks_stages else ():
            if not is_installed(module.partition(".")[0]):
                raise InputError(
                    f"field 'runtime.preload': no module '{module}' is installed; remove it"
                )

    def torch_device(self) -> str:
        """Return `cuda` or `cpu`; may import torch."""
        if self.device != "auto":
            return self.device
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    def vllm_environment(self) -> dict[str, str]:
        """Return what vLLM reads from the environment at import; values that are set stay."""
        defaults = {
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_LOGGING_LEVEL": "WARNING",
            # vLLM would bind the threads of two engines to the same first cores.
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        }
        if self.torch_device() == "cpu":
            defaults["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        return {name: os.environ.get(name, value) for name, value in defaults.items()}


def allow_open_files() -> None:
    """Raise this process's limit of open files: a stage reads all shards at once."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # where the system knows no such number
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def limit_threads(threads: int) -> None:
    """Set the number of threads of torch, BLAS and FAISS, which read it when they load."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
