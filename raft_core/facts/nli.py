"""Ask a cross-encoder for natural-language inference whether one text contradicts the other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from raft_core.config.base import FrozenConfig, ModelRef
from raft_core.config.runtime import RuntimeConfig
from raft_core.errors import InputError


class NliConfig(FrozenConfig):
    """A sequence classifier with a label `contradiction`.

    For example `cross-encoder/nli-deberta-v3-base`; the order of its labels is read from the model.
    """

    model: ModelRef
    threshold: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="probability of a contradiction from which a text is rejected"
    )
    max_tokens: Annotated[int, Field(gt=0)] = Field(
        512, description="tokens of both texts together that are read"
    )


class NliModel:
    """A loaded cross-encoder."""

    def __init__(self, config: NliConfig, runtime: RuntimeConfig) -> None:
        from sentence_transformers import CrossEncoder

        self._config, self._batch_size = config, runtime.embed_batch_size
        self._model = CrossEncoder(
            config.model.resolve(),
            revision=config.model.revision,
            device=runtime.torch_device(),
            max_length=config.max_tokens,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
        labels = self._model.config.id2label
        self._column = contradiction_label(labels, config.model.path)

    def contradictions(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """Return for each pair the contradiction's share in the worse direction; empty below it."""
        if not pairs:
            return []
        both = [*pairs, *((b, a) for a, b in pairs)]
        import numpy as np

        logits_NL = np.asarray(
            self._model.predict(both, batch_size=self._batch_size, show_progress_bar=False),
            dtype=np.float64,
        )
        exps_NL = np.exp(logits_NL - logits_NL.max(axis=1, keepdims=True))
        shares_N = (exps_NL / exps_NL.sum(axis=1, keepdims=True))[:, self._column]
        worst_N = np.maximum(shares_N[: len(pairs)], shares_N[len(pairs) :]).tolist()
        return [
            f"contradiction {share:.3f}" if share >= self._config.threshold else ""
            for share in worst_N
        ]


def contradiction_label(labels: Any, model: str) -> int:
    """Return the index of the label that says `contradiction`.

    Raises:
        InputError: none does, or several do.
    """
    known = {int(index): str(label) for index, label in dict(labels or {}).items()}
    found = [index for index, label in known.items() if label.casefold().startswith("contradict")]
    if len(found) != 1:
        raise InputError(
            f"guard.nli: model '{model}' has no label 'contradiction'; it has "
            f"{sorted(known.values())}; give a cross-encoder trained for inference (NLI)"
        )
    return found[0]


def check_nli(config: NliConfig) -> None:
    """Check the small files of a local model, before anything is loaded.

    Raises:
        InputError: the folder, its weights or its labels are not there.
    """
    if config.model.local_folder() is None:
        return
    file = Path(config.model.resolve()) / "config.json"
    try:
        labels = json.loads(file.read_text(encoding="utf-8")).get("id2label")
        contradiction_label(labels, config.model.path)
    except (ValueError, AttributeError, TypeError):
        raise InputError(f"guard.nli: '{file}' cannot be read as a model's configuration") from None
