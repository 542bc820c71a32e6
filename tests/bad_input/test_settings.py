"""Settings and profiles: refused with one error before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.api import choose_api
from raft_core.app.checks import checked
from raft_core.app.settings import CONF, load_settings
from raft_core.config.runtime import RuntimeConfig
from raft_core.errors import InputError
from raft_core.store.shared import open_store
from tests.artifacts import spec

SETTINGS: dict[str, tuple[list[str], str]] = {
    "share above one": (["filter.tau=1.5"], r"'filter\.tau'.*less than"),
    "not a number": (["filter.tau=.nan"], r"'filter\.tau'.*finite"),
    "infinite": (["distill.temperature=.inf"], r"'distill\.temperature'.*finite"),
    "text for a number": (["distill.epochs=three"], r"'distill\.epochs'.*number.*'three'"),
    "number for text": (["domain.name=3"], r"'domain\.name'.*string"),
    "negative rate": (["methods.raft.learning_rate=-1"], r"learning_rate'.*greater than 0"),
    "field that is not there": (["filter.tua=0.5"], r"'filter\.tua': no such field"),
    "section that is not there": (["fliter.tau=0.5"], r"'fliter': no such field"),
    "no value": (["filter.tau"], r"write it as section\.field=value"),
    "value that is not YAML": (["filter.tau=[1"], r"not YAML"),
    "Python object in YAML": (["filter.tau=!!python/object/apply:os.getcwd []"], r"not YAML"),
    "path in a domain's name": (["domain.name=../../x"], r"'domain\.name'.*pattern"),
    "path in a prompt's name": (
        ["rewrite.prompt=../../../../../../../../etc/passwd"], r"rewrite\.prompt",
    ),
    "rollouts without end": (["distill.rollout.max_tokens=10000000"], r"max_tokens'.*less than"),
    "no rows at all": (["domain.limit=0"], r"'domain\.limit'.*greater than 0"),
    "judges that are none": (["evaluate.panel=[]"], r"evaluate\.panel"),
    "method of no such targets": (["methods.raft.targets=magic"], r"methods\.raft\.targets"),
    "batch that does not divide": (
        ["distill.batch_size=10", "distill.gradient_accumulation=4"], r"no multiple",
    ),
    "engine of no such kind": (["engine.kind=magic"], r"'engine'.*magic"),
    "endpoint that is not named": (
        ["fusion_engine={kind: openai, endpoint: far, model: m}"], r"no 'far'",
    ),
    "password in an endpoint's address": (
        ["runtime.endpoints={far: {base_url: 'http://me:hunter2@far/v1'}}"], r"holds a user",
    ),
    "key in an endpoint's address": (
        ["runtime.endpoints={far: {base_url: 'http://far/v1?api_key=hunter2'}}"], r"user, password",
    ),
    "key in what goes to an endpoint": (
        ["fusion_engine={kind: openai, endpoint: e, model: m, extra_body: {api_key: hunter2}}"],
        r"holds 'api_key'",
    ),
    "key below what goes to an endpoint": (
        [
            "fusion_engine={kind: openai, endpoint: e, model: m, "
            "extra_body: {headers: {Authorization: Bearer hunter2}}}"
        ],
        r"headers\.Authorization': holds a user, password or key",
    ),
    "key by a longer name": (
        ["fusion_engine={kind: openai, endpoint: e, model: m, extra_body: {x-api-key: hunter2}}"],
        r"holds 'x-api-key'",
    ),
    "key where its variable belongs": (
        ["runtime.endpoints={far: {base_url: 'http://far/v1', api_key_env: hunter2-sk}}"],
        r"api_key_env'.*pattern",
    ),
    "key in a field that is not there": (
        ["runtime.endpoints.far={base_url: 'http://far/v1', api_key: hunter2}"],
        r"api_key': no such field; .*api_key_env",
    ),
    "key as a field that is not there": (
        ["runtime.endpoints.far.api_key=hunter2"], r"api_key': no such field; .*api_key_env",
    ),
    "token in an endpoint's address": (
        ["runtime.endpoints={far: {base_url: 'https://far/v1?access_token=hunter2'}}"], r"password",
    ),
    "signature in an endpoint's address": (
        ["runtime.endpoints={far: {base_url: 'https://far/v1?sig=hunter2'}}"], r"password",
    ),
    "token behind an endpoint's address": (
        ["runtime.endpoints={far: {base_url: 'https://far/v1#token=hunter2'}}"], r"password or key",
    ),
    "password with a slash in an endpoint's address": (
        ["runtime.endpoints={far: {base_url: 'https://u:hunter2/x@far/v1'}}"], r"user, password",
    ),
    "user in an address without a scheme": (
        ["runtime.endpoints={far: {base_url: 'u:hunter2@far/v1'}}"], r"no address such as",
    ),
    "endpoint's address without a scheme": (
        ["runtime.endpoints={far: {base_url: 'localhost:8000/v1'}}"], r"no address such as http",
    ),
    "endpoint's address of no such scheme": (
        ["runtime.endpoints={far: {base_url: 'htp://far/v1'}}"], r"no address such as http",
    ),
    "endpoint's address without a host": (
        ["runtime.endpoints={far: {base_url: 'http://'}}"], r"no address such as http",
    ),
    "endpoint's address that breaks off": (
        ["runtime.endpoints={far: {base_url: 'http://[::1'}}"], r"no address such as http",
    ),
    "endpoint's address with blanks": (
        ["runtime.endpoints={far: {base_url: 'http://not a host/v1'}}"], r"no address such as http",
    ),
    "endpoint's address with the path of a request": (
        ["runtime.endpoints={far: {base_url: 'http://far/v1/chat/completions'}}"], r"before /chat",
    ),
    "key for a model's name": (
        ["engine.model.path=sk-proj-0123456789abcdEFGH"], r"engine\.model\.path': holds a user",
    ),
    "endpoint's address with a query": (
        ["runtime.endpoints={far: {base_url: 'http://far/v1?version=2'}}"], r"path alone",
    ),
    "layer that the model lacks": (
        ["distill.adapter={modules: [q_proj, no_proj]}"], r"no layer 'no_proj'; it has .*q_proj",
    ),
    "field twice": (["runtime.endpoints={far: {base_url: a, base_url: b}}"], r"not YAML"),
    "key in the store's address": (
        ["runtime.store=s3://bucket/x?secret_key=hunter2"], r"user, password",
    ),
    "password in the store's address": (["runtime.store=ftp://u:hunter2@h/x"], r"user, password"),
    "password in MLflow's address": (
        ["runtime.mlflow_uri=postgresql://u:hunter2@h/x"], r"user, password",
    ),
    "password in Ray's address": (["runtime.ray_address=ray://u:hunter2@h"], r"user, password"),
    "budget of nothing": (
        ["runtime.endpoints={far: {base_url: 'http://far/v1', budget: {requests: 0}}}"],
        r"budget\.requests'.*greater than 0",
    ),
    "budget that is no number": (
        ["runtime.endpoints={far: {base_url: 'http://far/v1', budget: {tokens: many}}}"],
        r"budget\.tokens'.*integer.*'many'",
    ),
    "budget without end": (
        ["runtime.endpoints={far: {base_url: 'http://far/v1', budget: {seconds: .inf}}}"],
        r"budget\.seconds'.*finite",
    ),
    "budget in a unit that is not counted": (
        ["runtime.endpoints={far: {base_url: 'http://far/v1', budget: {dollars: 5}}}"],
        r"budget\.dollars': no such field",
    ),
    "structured output of no such kind": (
        ["fusion_engine={kind: openai, endpoint: far, model: m, structured: xml}"],
        r"structured'.*'vllm', 'json_schema' or 'none'",
    ),
    "field that another one has replaced": (
        ["fusion_engine={kind: openai, endpoint: far, model: m, vllm_extensions: false}"],
        r"vllm_extensions': no such field",
    ),
    "rule that the guard lacks": (["guard.nmaes=false"], r"'guard\.nmaes': no such field"),
    "guard that is a word": (["guard=strict"], r"'guard'"),
    "guard whose threshold is no probability": (
        ["guard.nli={model: {path: x}, threshold: 1.5}"], r"guard\.nli\.threshold'.*less than",
    ),
    "guard whose model is not there": (
        ["guard.nli={model: {path: ./no/such/model}}"], r"no/such/model.*no config\.json",
    ),
    "guard whose model does not judge contradictions": (
        ["guard.nli={model: {path: 'mini:base'}}"], r"guard\.nli.*no label 'contradiction'",
    ),
    "nested too deep": (["filter.tau=" + "[" * 800], r"'filter\.tau': the value is not YAML"),
    "name nested too deep": (["filter.tau" + ".a" * 3000 + "=1"], r"'filter\.tau'.*valid number"),
    "date that is none": (["filter.tau=2020-13-45"], r"not YAML"),
    "number for a method's name": (
        ["methods={1: {targets: raw, learning_rate: 1e-3}}"], r"'methods\.1\..*valid string",
    ),
    "path for a method's name": (
        ["methods={'../../x': {targets: raw, learning_rate: 1e-3}}"], r"'methods\..*pattern",
    ),
    "no name of a method": (
        ["methods={'': {targets: raw, learning_rate: 1e-3}}"], r"'methods\..*pattern",
    ),
    "seed below zero": (["seed=-1"], r"'seed'.*greater than or equal to 0"),
    "seed beyond 32 bits": ([f"seed={10**23}"], r"'seed'.*less than"),
    "epochs without end": (["distill.epochs=1e+300"], r"'distill\.epochs'.*less than"),
    "learning rate without end": (
        ["methods.raft.learning_rate=1e+300"], r"learning_rate'.*less than",
    ),
    "learning rate without end in the grid": (
        ["learning_rate_grid=[1e+300]"], r"'learning_rate_grid\.0'.*less than",
    ),
    "batch without end": (["distill.batch_size=1000000000000"], r"batch_size'.*less than"),
    "student that is a list": (["students={a: {path: x}}", "student=[a]"], r"no student"),
    "preloaded module that is not there": (
        ["runtime.preload=[no_such_mod.of_mine]"], r"no module 'no_such_mod\.of_mine'",
    ),
    "preloaded module that is none": (["runtime.preload=[os; rm]"], r"preload\.0'.*pattern"),
    "model of no name": (["engine.model.path='package:..'"], r"package '\.\.' is not installed"),
    "model of a hidden package": (["engine.model.path='package:.x/y'"], r"is not installed"),
    "model of a package inside none": (
        ["engine.model.path='package:no.such/x'"], r"package 'no\.such' is not installed",
    ),
    "model of a name without end": (["engine.model.path=" + "x" * 5000], r"model 'xxx.*too long"),
    "prompt of a name without end": (["rewrite.prompt=" + "x" * 5000], r"prompt 'xxx.*too long"),
    "warning beyond a share": (["runtime.training.health.repeated={warn: 3}"], r"repeated"),
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_setting_is_refused_with_one_error(name: str) -> None:
    overrides, message = SETTINGS[name]
    with pytest.raises(InputError, match=message) as refused:
        checked(load_settings("mini", "law", overrides))
    assert len(str(refused.value)) < 600


PROFILES: dict[str, tuple[bytes, str]] = {
    "broken YAML": (b"a: [1", r"not readable as YAML"),
    "a list": (b"- 1\n- 2\n", r"must hold fields and values"),
    "empty": (b"", r"must hold fields and values"),
    "binary": (b"\xff\xfe\x00", r"not readable as YAML"),
    "a Python object": (b"a: !!python/object/apply:os.getcwd []", r"not readable as YAML"),
    "nested too deep": (b"a: " + b"[" * 800, r"not readable as YAML"),
    "a date that is none": (b"a: 2020-13-45", r"not readable as YAML"),
    "a number of YAML's own that is none": (b"a: !!int ''", r"not readable as YAML"),
    "names that YAML expands beyond all memory": (
        b"a: &a [x]\n"
        + b"".join(b"%c: &%c [%s]\n" % (n, n, b"*%c," % (n - 1) * 9) for n in range(98, 111))
        + b"filter: *n\n",
        r"'filter': Input should be",
    ),
    "a name that YAML expands without end": (
        b"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
        b"c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n",
        r"no such field",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PROFILES)
def test_profile_is_refused_with_an_error_that_names_it(name: str, tmp_path: Path) -> None:
    content, message = PROFILES[name]
    (tmp_path / "own.yaml").write_bytes(content)
    with pytest.raises(InputError, match=message) as refused:
        load_settings(str(tmp_path / "own.yaml"), "law")
    assert "own.yaml" in str(refused.value)


@pytest.mark.parametrize("name", ["no", "/etc/passwd", "a\0b", "x" * 300, "~nouser/x"])
def test_profile_or_domain_name_that_leads_nowhere_is_one_error(name: str) -> None:
    with pytest.raises(InputError):
        load_settings(name, "law")
    with pytest.raises(InputError):
        load_settings("mini", name)
    assert CONF.is_dir()


# home or store -> what is said of it. `~` is the test's own folder, where `file` is a file.
PLACES: dict[str, tuple[str, str]] = {
    "home that is a file": ("home=~/file", r"home .*: File exists"),
    "home below a file": ("home=~/file/home", r"home .*: Not a directory"),
    "home of the kernel": ("home=/proc/x", r"home .*'/proc/x': No such file"),
    "home of a name without end": ("home=" + "x" * 300, r"runtime\.home 'xxx.*too long"),
    "home of nobody": ("home=~nouser/x", r"runtime\.home '~nouser/x': .*home directory"),
    "store that is a file": ("store=~/file", r"store '.*file' is no folder"),
    "store below a file": ("store=~/file/store", r"store '.*' cannot be written: Not a directory"),
    "store of a name without end": ("store=" + "x" * 300, r"store 'xxx.*too long"),
    "store in a circle": ("store=~/loop", r"store '.*loop': Too many levels"),
}


@pytest.mark.parametrize("name", PLACES)
def test_place_that_cannot_be_written_is_one_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("RAFT_HOME", "PREFECT_API_URL"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in (("HOME", tmp_path), ("PREFECT_HOME", tmp_path)):
        monkeypatch.setenv(variable, str(value))
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    monkeypatch.chdir(tmp_path)
    runtime = load_settings("mini", "law", [f"runtime.{PLACES[name][0]}"]).runtime
    with pytest.raises(InputError, match=PLACES[name][1]):
        use(runtime, name.split()[0])


def use(runtime: RuntimeConfig, place: str) -> None:
    if place == "home":
        choose_api(runtime)
    with open_store(runtime).lock(spec()):
        pass
