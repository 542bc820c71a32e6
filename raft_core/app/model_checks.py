"""What can be wrong with a model's folder, found before anything is loaded.

Models of the hub are checked when they are loaded: their files are not here yet. Of the weights the
headers are read, so that numbers in them that are none are found when they are loaded too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from raft_core.config.base import ModelRef, is_installed
from raft_core.engines.base import EmbedderConfig, TransformersConfig, VllmConfig
from raft_core.engines.chat_templates import render
from raft_core.engines.control_tokens import TEMPLATE_SECONDS
from raft_core.errors import InputError, first_line
from raft_core.execution.deadline import deadline

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
COUNTS = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
# How families name the embeddings, and the list of layers beside them.
EMBEDDINGS = {"embed_tokens": "layers", "wte": "h", "embed_in": "layers", "word_embeddings": "h"}
WRITERS = (VllmConfig, TransformersConfig)
EMBEDDED = ("mini:", "package:")
PROBE = "Why is the sky blue?"
Shapes = dict[str, list[int]]


def check_models(settings: Any) -> None:
    """Look at every model folder that settings name.

    Raises:
        InputError: the first thing that is wrong, with the model and the remedy.
    """
    if not is_installed("vllm") and any(models_of(settings, (VllmConfig,))):
        raise InputError(
            "engine of 'kind: vllm': vllm is not installed; install it, or give 'kind: auto'"
        )
    writers = models_of(settings, WRITERS)
    for model in {ref.path: ref for ref in writers}.values():
        check_chat_model(model)
    encoders = models_of(settings, (EmbedderConfig,))
    for model in {ref.path: ref for ref in encoders}.values():
        check_encoder(model)


def models_of(value: Any, kinds: tuple[type[BaseModel], ...]) -> Iterator[ModelRef]:
    """The models of all engines of these kinds in settings, wherever they stand."""
    if isinstance(value, kinds):
        model: ModelRef = getattr(value, "model")  # noqa: B009 (each of these has one)
        yield model
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from models_of(getattr(value, name), kinds)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from models_of(item, kinds)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from models_of(item, kinds)


def require_whole(folder: Path, named: str) -> None:
    """An adapter would be loaded with the model, and trained or used unseen."""
    if (folder / "adapter_config.json").is_file():
        raise InputError(
            f"{named}: '{folder}' holds an adapter (adapter_config.json); merge it into its model "
            "first (merge_and_unload of peft) and give the folder of the merged one, or remove the "
            "adapter's files"
        )


def check_encoder(model: ModelRef) -> None:
    """Configuration and weights of a local encoder, and of the modules below it.

    Raises:
        InputError: one is missing, torn, or of a kind that is not read.
    """
    if model.local_folder() is None:
        return
    folder, named = Path(model.resolve()), f"model '{model.path}'"
    require_whole(folder, named)
    config = read_object(folder / "config.json", named)
    require_no_code(config, "config.json", named)
    for file in sorted(folder.rglob("*.safetensors")):
        shapes_in(file, named)
    for pickled in sorted(folder.rglob("pytorch_model*.bin")):
        if not any(pickled.parent.glob("*.safetensors")):
            raise InputError(
                f"{named}: '{pickled.relative_to(folder)}' is no safetensors file, and a pickle is "
                "not read; save the model anew"
            )
    if is_transformer(folder, named):
        check_configuration(model, folder, named)


def is_transformer(folder: Path, named: str) -> bool:
    """Whether transformers loads the encoder's own folder: some are tables of vectors."""
    file = folder / "modules.json"
    if not file.is_file():
        return True
    with understood(file, named):
        kinds = [each["type"] for each in json.loads(file.read_text(encoding="utf-8"))]
    return any(str(kind).endswith(".Transformer") for kind in kinds)


def require_no_code(config: Mapping[str, Any], file: str, named: str) -> None:
    if "auto_map" in config:
        raise InputError(
            f"{named} brings code of its own (auto_map in {file}), which is not run; give a "
            "model whose architecture transformers knows"
        )


def check_configuration(model: ModelRef, folder: Path, named: str) -> None:
    """What transformers makes of config.json. Its import takes seconds: not for what is embedded.

    Raises:
        InputError: it knows no such architecture, or sizes and types do not fit together.
    """
    if model.path.startswith(EMBEDDED):
        return
    from transformers import AutoConfig

    with understood(folder / "config.json", named):
        AutoConfig.from_pretrained(folder, trust_remote_code=False)


def check_chat_model(model: ModelRef) -> None:
    """Configuration, weights, tokenizer and chat template of a local folder.

    Raises:
        InputError: one is missing, torn, or not the model's.
    """
    if model.local_folder() is None:
        return
    folder, named = Path(model.resolve()), f"model '{model.path}'"
    require_whole(folder, named)
    config = read_object(folder / "config.json", named)
    if not isinstance(config.get("model_type"), str):
        raise InputError(
            f"{named}: config.json does not name its 'model_type'; fetch the file again"
        )
    require_no_code(config, "config.json", named)
    text = config.get("text_config", config)
    with understood(folder / "config.json", named):
        check_counts(text, named)
    check_stops(folder / "generation_config.json", text.get("vocab_size"), named)
    shapes = shapes_of_weights(folder, named)
    check_vocabulary(folder, text, named)
    if not any(name.startswith("quantization") for name in (*config, *text)):
        with understood(folder / "config.json", named):
            check_shapes(shapes, text, named)
    check_chat_template(folder, named)
    check_configuration(model, folder, named)


@contextmanager
def understood(file: Path, named: str) -> Iterator[None]:
    """Content that breaks the code which reads it is one error too.

    Raises:
        InputError: with the model, the file and what a library said of it.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        told = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(
            f"{named}: '{file.name}' is not what a model's is ({told}); fetch it again"
        ) from None


def check_stops(file: Path, vocabulary: int | None, named: str) -> None:
    """Where a generation configuration is given, its stop tokens must be ids that there are."""
    stops = read_object(file, named).get("eos_token_id") if file.is_file() else None
    each = stops if isinstance(stops, list) else [stops or 0]
    if any(type(stop) is not int or not 0 <= stop < (vocabulary or stop + 1) for stop in each):
        raise InputError(
            f"{named}: field 'eos_token_id' of {file.name} is {str(stops)[:60]!r}, no token id; "
            "fetch the file again"
        )


def check_counts(config: Mapping[str, Any], named: str) -> None:
    """The sizes that a configuration states must be whole numbers above zero."""
    for name in COUNTS:
        size = config.get(name, 1)
        if type(size) is not int or size < 1:
            raise InputError(
                f"{named}: field '{name}' of config.json is {str(size)[:60]!r}, no whole number "
                "above 0; fetch the file again"
            )


def shapes_of_weights(folder: Path, named: str) -> Shapes:
    """The shape of every tensor that will be loaded, from the headers of the files.

    Raises:
        InputError: a file is torn or none, or the index names what is not there.
    """
    files = {file.name: shapes_in(file, named) for file in sorted(folder.glob("*.safetensors"))}
    if not (folder / INDEX).is_file():
        if WEIGHTS not in files:
            raise InputError(
                f"{named}: '{folder}' has neither {WEIGHTS} nor {INDEX}, only {', '.join(files)}; "
                "give the folder of a whole model"
            )
        return files[WEIGHTS]
    with understood(folder / INDEX, named):
        places: dict[str, str] = read_object(folder / INDEX, named)["weight_map"]
        for tensor, file in places.items():
            if tensor not in files.get(file, {}):
                raise InputError(
                    f"{named}: {INDEX} names '{tensor[:80]}' in '{file[:80]}', where it is not; "
                    "fetch all of the model's files"
                )
        return {tensor: files[file][tensor] for tensor, file in places.items()}


def shapes_in(file: Path, named: str) -> Shapes:
    """Of one safetensors file, once its library has found that header and size agree."""
    from safetensors import safe_open

    with understood(file, named), safe_open(file, framework="numpy") as weights:
        return {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118


def check_vocabulary(folder: Path, config: Mapping[str, Any], named: str) -> None:
    """Every token of the tokenizer must have a row in the model's embeddings."""
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise InputError(f"{named}: '{folder}' has no tokenizer.json; save its tokenizer there")
    with understood(file, named):
        largest = max(Tokenizer.from_file(str(file)).get_vocab().values())
    size = config.get("vocab_size")
    if size is not None and largest >= size:
        raise InputError(
            f"{named}: its tokenizer knows token {largest}, its weights only {size} tokens; the "
            "tokenizer is another model's"
        )


def check_shapes(shapes: Shapes, config: Mapping[str, Any], named: str) -> None:
    """Embeddings and layers must be as large and as many as the configuration says.

    Quantized weights are packed in other shapes; of families that name their embeddings otherwise
    nothing is known here. Both are left to what loads them.
    """
    if not shapes:
        raise InputError(f"{named}: its weights hold no tensor; fetch them again")
    vocabulary, width = config.get("vocab_size"), config.get("hidden_size", config.get("n_embd"))
    layers = config.get("num_hidden_layers", config.get("n_layer"))
    for name, shape in shapes.items():
        above, _, last = name.removesuffix(".weight").rpartition(".")
        if last not in EMBEDDINGS or None in (vocabulary, width, layers):
            continue
        if shape != [vocabulary, width]:
            raise InputError(
                f"{named}: '{name}' is {shape}, config.json says vocab_size {vocabulary} and "
                f"hidden_size {width}; the files are of different models"
            )
        beside = f"{above}.{EMBEDDINGS[last]}.".removeprefix(".")
        numbers = {n.removeprefix(beside).split(".")[0] for n in shapes if n.startswith(beside)}
        if len(numbers) < layers:
            raise InputError(
                f"{named}: its weights hold {len(numbers)} layers, config.json says "
                f"num_hidden_layers {layers}; the files are of different models"
            )


def check_chat_template(folder: Path, named: str) -> None:
    """A chat template must be there, compile, and show a model what the user says."""
    own = folder / "tokenizer_config.json"
    if own.is_file():
        require_no_code(read_object(own, named), own.name, named)
    with understood(own, named):
        tokens, template = tokens_and_template(folder, named)
    if not template:
        raise InputError(
            f"{named} has no chat template; RAFT needs an instruction-tuned model whose tokenizer "
            "carries one"
        )
    try:
        with deadline(TEMPLATE_SECONDS):
            shown = render(template, PROBE, tokens)
    except Exception as error:  # a template is a program: it may end in anything
        raise InputError(
            f"{named}: its chat template cannot be used ({type(error).__name__}: "
            f"{first_line(error)}); mend it or fetch it again"
        ) from None
    if PROBE not in shown:
        raise InputError(f"{named}: its chat template leaves out what the user says; mend it")


def tokens_and_template(folder: Path, named: str) -> tuple[dict[str, str], str]:
    """The special tokens that a template may name, and the template, '' where there is none."""
    stated: dict[str, Any] = {}
    for file in (folder / "chat_template.json", folder / "tokenizer_config.json"):
        stated |= read_object(file, named) if file.is_file() else {}
    tokens = {"bos_token": "", "eos_token": "", "unk_token": "", "pad_token": ""}
    for name, token in stated.items():
        if name.endswith("_token") and token and not isinstance(token, bool):
            tokens[name] = token["content"] if isinstance(token, Mapping) else token
    template = stated.get("chat_template") or ""
    if isinstance(template, list):  # several by name
        template = {one["name"]: one["template"] for one in template}["default"]
    own = folder / "chat_template.jinja"
    return tokens, own.read_text(encoding="utf-8") if own.is_file() else template


def read_object(file: Path, named: str) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{named}: '{file}' cannot be read as JSON ({first_line(error)}); fetch it again"
        ) from None
    if not isinstance(content, dict):
        raise InputError(f"{named}: '{file}' holds no JSON object")
    return content
