"""Model folders: refused with one error before any weights are loaded."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raft_core.app.checks import checked
from raft_core.app.model_checks import check_chat_model
from raft_core.app.settings import load_settings
from raft_core.config.base import PACKAGE_ROOT, ModelRef
from raft_core.engines.chat import load_tokenizer, loading, stop_token_ids
from raft_core.errors import InputError

BASE = PACKAGE_ROOT / "mini" / "base"


def edited(file: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        change(content)
        (folder / file).write_text(json.dumps(content))

    return edit


def torn(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def no_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 10) + b"not JSON!!" + b"\0" * 50)


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def missing(file: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).unlink()


def header(content: Any) -> Callable[[Path], object]:
    """Weights that begin with this and end."""
    told = content if isinstance(content, bytes) else json.dumps(content).encode()
    written = struct.pack("<Q", len(told)) + told
    return lambda folder: (folder / "model.safetensors").write_bytes(written)


def tensor(*offsets: Any) -> dict[str, Any]:
    return {"w": {"dtype": "F32", "shape": [1], "data_offsets": list(offsets)}}


def added(tokenizer: dict[str, Any], content: str) -> dict[str, Any]:
    return tokenizer["added_tokens"][0] | {"id": 1200, "content": content}


def indexed(file: str, tensor: str = "model.norm.weight") -> Callable[[Path], object]:
    index = json.dumps({"metadata": {}, "weight_map": {tensor: file}})
    return lambda folder: (folder / "model.safetensors.index.json").write_text(index)


def renamed(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "model.safetensors").rename(folder / name)


def template(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "chat_template.jinja").write_text(text)


def in_a_circle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(folder / "model.safetensors")


def a_folder(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()


@pytest.fixture(autouse=True)
def _short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raft_core.app.model_checks.TEMPLATE_SECONDS", 1.0)


MODELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda folder: shutil.rmtree(folder), r"no config\.json"),
    "no configuration": (missing("config.json"), r"no config\.json"),
    "configuration that is no JSON": (
        lambda folder: (folder / "config.json").write_text("{"), r"cannot be read as JSON",
    ),
    "no chat template": (missing("chat_template.jinja"), r"has no chat template"),
    "no tokenizer": (missing("tokenizer.json"), r"has no tokenizer\.json"),
    "tokenizer of another model": (
        edited("config.json", lambda c: c.update(vocab_size=900)),
        r"knows token 1199, its weights only 900",
    ),
    "token that was added beyond the embeddings": (
        edited("tokenizer.json", lambda t: t["added_tokens"].append(added(t, "<|more|>"))),
        r"knows token 1200",
    ),
    "torn weights": (torn, r"'model\.safetensors' is not what .*fetch it again"),
    "weights that are none": (no_header, r"'model\.safetensors' is not what .*header"),
    "weights as a pickle": (pickled, r"no \*\.safetensors weights"),
    "tokenizer that is nothing": (edited("tokenizer.json", dict.clear), r"'tokenizer\.json' is"),
    "tokenizer without a model": (
        edited("tokenizer.json", lambda t: t.update(model=[])), r"'tokenizer\.json' is not what",
    ),
    "tokenizer of a null model": (
        edited("tokenizer.json", lambda t: t.update(model=None)), r"'tokenizer\.json' is not what",
    ),
    "tokenizer without a vocabulary": (
        edited("tokenizer.json", lambda t: t["model"].update(vocab=None)), r"'tokenizer\.json' is",
    ),
    "added tokens that are text": (
        edited("tokenizer.json", lambda t: t.update(added_tokens=["a"])), r"'tokenizer\.json' is",
    ),
    "added tokens that are null": (
        edited("tokenizer.json", lambda t: t.update(added_tokens=None)), r"'tokenizer\.json' is",
    ),
    "added token of an id that is text": (
        edited("tokenizer.json", lambda t: t["added_tokens"].append({"id": "5000"})),
        r"'tokenizer\.json' is not what",
    ),
    "weights of places that are text": (header(tensor("a", "b")), r"'model\.safetensors' is not"),
    "weights of places below zero": (header(tensor(0, -5)), r"'model\.safetensors' is not what"),
    "weights without a tensor": (header({}), r"weights hold no tensor"),
    "weights that are a list": (header([]), r"'model\.safetensors' is not what"),
    "weights of a header nested too deep": (header(b"[" * 100_000), r"'model\.safetensors' is not"),
    "weights that are a folder": (a_folder, r"'model\.safetensors' is not what"),
    "weights that are a link to themselves": (in_a_circle, r"'model\.safetensors' is not what"),
    "weights of an adapter alone": (renamed("adapter_model.safetensors"), r"has neither model"),
    "index that names an absent file": (indexed("model-00002.safetensors"), r"where it is not"),
    "index that leads out of the folder": (indexed("../../x.safetensors"), r"where it is not"),
    "index that names an absent tensor": (indexed("model.safetensors", "w"), r"'w' in 'model"),
    "index that is a list": (
        lambda folder: (folder / "model.safetensors.index.json").write_text("[]"), r"no JSON obj",
    ),
    "index without a map": (
        lambda folder: (folder / "model.safetensors.index.json").write_text("{}"), r"weight_map",
    ),
    "configuration nested too deep": (
        lambda folder: (folder / "config.json").write_text("[" * 200_000), r"cannot be read as",
    ),
    "configuration of a wider model": (
        edited("config.json", lambda c: c.update(hidden_size=256)), r"hidden_size 256; the files",
    ),
    "configuration of a deeper model": (
        edited("config.json", lambda c: c.update(num_hidden_layers=6)), r"hold 4 layers, config",
    ),
    "configuration of more tokens": (
        edited("config.json", lambda c: c.update(vocab_size=1300)), r"vocab_size 1300",
    ),
    "size that is text": (
        edited("config.json", lambda c: c.update(vocab_size="many")), r"'vocab_size' .*'many'",
    ),
    "no family": (edited("config.json", lambda c: c.pop("model_type")), r"its 'model_type'; fetch"),
    "stop token that is text": (
        edited("generation_config.json", lambda c: c.update(eos_token_id="x")), r"'x', no token id",
    ),
    "stop tokens that are torn": (
        lambda folder: (folder / "generation_config.json").write_text("{"), r"cannot be read as",
    ),
    "no heads": (
        edited("config.json", lambda c: c.update(num_attention_heads=0)), r"attention_heads' .*'0'",
    ),
    "text part that is null": (
        edited("config.json", lambda c: c.update(text_config=None)), r"'config\.json' is not what",
    ),
    "empty chat template": (template(""), r"has no chat template"),
    "chat template that breaks off": (template("{% for x in %}"), r"chat template cannot be used"),
    "chat template that refuses": (template("{{ raise_exception('no') }}"), r"used \(.*: no\)"),
    "chat template that looks around": (
        template("{{ ''.__class__.__mro__[1].__subclasses__() }}"), r"SecurityError",
    ),
    "chat template without end": (
        template("{% for i in range(10**9) %}x{% endfor %}"), r"OverflowError",
    ),
    "chat template that loops for ever": (
        template("{% for i in range(9**5) %}{% for j in range(9**5) %}{% endfor %}{% endfor %}"),
        r"chat template cannot be used \(OverdueError: it took longer than",
    ),
    "chat template that fills the memory": (
        template("{{ 'a' * 10**10 }}{{ messages[0].content }}"), r"cannot be used \(MemoryError",
    ),
    "chat template that pads": (
        template("{{ 'a'.ljust(10**10) }}"), r"cannot be used \(MemoryError",
    ),
    "adapter instead of a model": (
        lambda folder: (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}'),
        r"holds an adapter \(adapter_config\.json\); merge it",
    ),
    "chat template that hears nothing": (template("hello"), r"leaves out what the user says"),
    "chat templates without a default": (
        lambda folder: [
            missing("chat_template.jinja")(folder),
            edited("tokenizer_config.json", lambda c: c.update(
                chat_template=[{"name": "tools", "template": "x"}]))(folder),
        ],
        r"'tokenizer_config\.json' is not what .*default",
    ),
    "tokenizer's configuration that is torn": (
        lambda folder: (folder / "tokenizer_config.json").write_text("{"), r"cannot be read as",
    ),
    "code of its tokenizer's own": (
        edited("tokenizer_config.json", lambda c: c.update(auto_map={"AutoTokenizer": ["e.T"]})),
        r"code of its own \(auto_map in tokenizer_config\.json\)",
    ),
    "stop token beyond the vocabulary": (
        edited("generation_config.json", lambda c: c.update(eos_token_id=[3, 99_999])),
        r"99999\]', no token id",
    ),
    "stop token below zero": (
        edited("generation_config.json", lambda c: c.update(eos_token_id=-4)), r"-4', no token id",
    ),
    "heads that do not divide the width": (
        edited("config.json", lambda c: c.update(num_attention_heads=7)),
        r"'config\.json' is not what .*StrictDataclass.*divi|multiple",
    ),
    "family that nobody knows": (
        edited("config.json", lambda c: c.update(model_type="nosuch")),
        r"'config\.json' is not what .*nosuch",
    ),
    "file that is a link to nothing": (
        lambda folder: (folder / "added_tokens.json").symlink_to(folder / "nothing"),
        r"'added_tokens\.json' cannot be read \(No such file",
    ),
    "code of its own": (
        edited("config.json", lambda c: c.update(auto_map={"AutoModel": "evil.Model"})),
        r"code of its own",
    ),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(BASE, tmp_path / "model")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("place", ["engine", "fusion_engine"])
def test_model_is_refused_before_any_weights_are_loaded(
    name: str, place: str, folder: Path
) -> None:
    damage, message = MODELS[name]
    damage(folder)
    settings = load_settings("mini", "law", [f"{place}.model.path={folder}"])
    with pytest.raises(InputError, match=message) as refused:
        checked(settings)
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)


def as_pickle(folder: Path) -> None:
    dense = folder / "2_Dense"
    dense.mkdir()
    (dense / "config.json").write_text("{}")
    (dense / "pytorch_model.bin").write_bytes(b"\x80\x04.")


ENCODERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no configuration": (missing("config.json"), r"no config\.json"),
    "configuration that is no JSON": (
        lambda folder: (folder / "config.json").write_text("{"), r"cannot be read as JSON",
    ),
    "family that nobody knows": (
        edited("config.json", lambda c: c.update(model_type="nosuch")), r"nosuch",
    ),
    "code of its own": (
        edited("config.json", lambda c: c.update(auto_map={"AutoModel": "evil.Model"})),
        r"code of its own",
    ),
    "torn weights": (torn, r"'model\.safetensors' is not what .*fetch it again"),
    "a module as a pickle": (as_pickle, r"'2_Dense/pytorch_model\.bin' is no safetensors"),
}  # fmt: skip


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder_is_refused_before_any_weights_are_loaded(name: str, folder: Path) -> None:
    damage, message = ENCODERS[name]
    damage(folder)
    settings = load_settings("mini", "law", [f"encoder.model.path={folder}"])
    with pytest.raises(InputError, match=message) as refused:
        checked(settings)
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_model_without_a_pad_token_pads_with_its_end(folder: Path) -> None:
    for file in ("tokenizer_config.json", "config.json"):
        edited(file, lambda c: [c.pop(name, None) for name in ("pad_token", "pad_token_id")])(
            folder
        )
    settings = checked(load_settings("mini", "law", [f"engine.model.path={folder}"]))
    tokenizer = load_tokenizer(settings.base)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id


def test_model_with_several_stop_ids_stops_at_each(folder: Path) -> None:
    from transformers import GenerationConfig

    edited("generation_config.json", lambda c: c.update(eos_token_id=[3, 7, 9]))(folder)
    settings = checked(load_settings("mini", "law", [f"engine.model.path={folder}"]))
    config = GenerationConfig.from_pretrained(folder)
    assert stop_token_ids(load_tokenizer(settings.base), config) == [3, 7, 9]


TEMPLATES = {
    "plain": "{{ messages[0].content }}",
    "the assistant's part marked": "{{ messages[0].content }}{% generation %}x{% endgeneration %}",
    "leaving a loop": "{% for m in messages %}{{ m['content'] }}{% break %}{% endfor %}",
    "tokens by name": "{{ messages[0]['content'] + eos_token }}",
    "today, tools and JSON": (
        "{{ strftime_now('%Y') }}{% if tools %}x{% endif %}{{ messages | tojson(indent=2) }}"
    ),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_chat_template_that_transformers_knows_is_accepted(name: str, folder: Path) -> None:
    template(TEMPLATES[name])(folder)
    check_chat_model(ModelRef(path=str(folder)))
    tokenizer = load_tokenizer(ModelRef(path=str(folder)))
    assert tokenizer.apply_chat_template([{"role": "user", "content": "Q"}], tokenize=False)


def test_model_in_shards_with_more_than_its_configuration_asks_is_accepted(folder: Path) -> None:
    """Layers beyond those of the configuration (for guessing ahead) are no fault."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    shards = {"model-1.safetensors": {}, "model-2.safetensors": {}}
    for number, (name, values) in enumerate(tensors.items()):
        shards[f"model-{number % 2 + 1}.safetensors"][name] = values
    for file, part in shards.items():
        save_file(part, folder / file)
    places = {name: file for file, part in shards.items() for name in part}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    edited("config.json", lambda c: c.update(num_hidden_layers=3))(folder)
    check_chat_model(ModelRef(path=str(folder)))


def test_model_whose_library_refuses_its_settings_is_an_error_of_the_model() -> None:
    """Not of the stage's specification, whose own settings are pydantic's too."""
    model = ModelRef(path="mini:base")
    with (
        pytest.raises(InputError, match=r"'mini:base' cannot be loaded: .*valid string"),
        loading(model),
    ):
        ModelRef.model_validate({"path": 1})
