"""Pack rows one after another without padding, for a model of `transformers`.

A decoder computes almost everything token by token, so the S real tokens of a batch can pass
through it as one row. Only attention has to know where a row ends. It is registered as an attention
implementation of `transformers`, which spreads the tokens over B rows of T columns, computes, and
packs them again. Rows that begin alike share those tokens (`Start`): computed once, they give the
results and gradients of rows of their own (dropout draws one mask for them). A row may also
continue from keys and values that another pass has computed (`Prefix`): those are read, not
computed again.

Dimensions: S packed tokens, B rows, T columns, P columns of the longest prefix, H heads, E size of
a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

ATTENTION = "raft_packed"

ATTENDING = {"full_attention", "sliding_attention"}

# Keys and values of one row, [2, H, length, E], for each layer by its index.
Prefix = tuple[torch.Tensor, ...]


# (earlier row, how many of its first tokens a row shares with it)
Start = tuple[int, int]


class Packing:
    """Map S packed tokens to B rows; with `keep` it collects the layers' keys and values.

    `cells` says which packed token is at each column of a row. Rows with a shared start point at
    the same cells, so autograd sums their gradients there.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        device: torch.device,
        prefixes: Sequence[Prefix | None] | None = None,
        *,
        starts: Sequence[Start | None] | None = None,
        keep: bool = False,
    ) -> None:
        if starts and any(starts) and (keep or (prefixes and any(prefixes))):
            raise ValueError("rows that share their beginning have no prefix, and none is kept")
        self.lengths, self.width = list(lengths), max(lengths)
        self.starts = list(starts) if starts and any(starts) else [None] * len(self.lengths)
        self.cells, places = self._lay_out()
        self.places_S = torch.tensor(places, device=device)
        self.cells_BT = self._padded_cells(device) if any(self.starts) else None
        self.kept: dict[int, torch.Tensor] | None = {} if keep else None
        self._prefixes = list(prefixes) if prefixes and any(prefixes) else None
        self.mask_B1TP = self._mask(device) if self._prefixes else None

    def _lay_out(self) -> tuple[list[list[int]], list[int]]:
        """Return the cells of each row, and for every packed token the first place that it fills.

        A place is row * T + column.
        """
        cells: list[list[int]] = []
        places: list[int] = []
        for row, (length, start) in enumerate(zip(self.lengths, self.starts, strict=True)):
            owner, shared = start or (0, 0)
            own = range(len(places), len(places) + length - shared)
            cells.append([*cells[owner][:shared], *own] if shared else list(own))
            places += range(row * self.width + shared, row * self.width + length)
        return cells, places

    def _padded_cells(self, device: torch.device) -> torch.Tensor:
        """Return the cells as [B, T]; empty columns point at token 0.

        Nothing that counts attends to an empty column.
        """
        padded = [row + [0] * (self.width - len(row)) for row in self.cells]
        return torch.tensor(padded, device=device)

    @property
    def before(self) -> list[int]:
        """Number of tokens of each row that an earlier pass has read."""
        found = self._prefixes or [None] * len(self.lengths)
        return [prefix[0].shape[2] if prefix else 0 for prefix in found]

    def spread(self, packed_1HSE: torch.Tensor) -> torch.Tensor:
        """Spread packed [1, H, S, E] to [B, H, T, E].

        Empty columns hold zeros, or some token's numbers.
        """
        packed_SHE = packed_1HSE[0].transpose(0, 1)
        # Shared tokens stand in several rows: gathering sums their gradients over these rows.
        if self.cells_BT is not None:
            rows = packed_SHE.index_select(0, self.cells_BT.flatten())
            return rows.view(*self.cells_BT.shape, *packed_SHE.shape[1:]).transpose(1, 2)
        rows = packed_SHE.new_zeros(len(self.lengths) * self.width, *packed_SHE.shape[1:])
        rows = rows.index_copy(0, self.places_S, packed_SHE)
        return rows.view(len(self.lengths), self.width, *packed_SHE.shape[1:]).transpose(1, 2)

    def packed(self, spread_BTHE: torch.Tensor) -> torch.Tensor:
        """Pack an attention's output [B, T, H, E] to [1, S, H, E]: the inverse of `spread`."""
        return spread_BTHE.flatten(0, 1).index_select(0, self.places_S)[None]

    def with_prefix(
        self, layer: int, key_BHTE: torch.Tensor, value_BHTE: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the keys and values of one layer with those of the prefixes before them.

        Prefixes are aligned to the right, so that each ends where its row begins.
        """
        if self._prefixes is None:
            return key_BHTE, value_BHTE
        longest = max(self.before)
        rows, heads, _, size = key_BHTE.shape
        read = key_BHTE.new_zeros(2, rows, heads, longest, size)
        for row, prefix in enumerate(self._prefixes):
            if prefix:
                kept = prefix[layer]
                read[:, row, :, longest - kept.shape[2] :] = kept.to(read.device, non_blocking=True)
        return torch.cat([read[0], key_BHTE], 2), torch.cat([read[1], value_BHTE], 2)

    def _mask(self, device: torch.device) -> torch.Tensor:
        """Return the mask [B, 1, T, P + T]: prefixes end at column P, the rest is causal."""
        before, longest = torch.tensor(self.before, device=device), max(self.before)
        columns_P = torch.arange(longest, device=device)
        prefix_BP = columns_P >= (longest - before)[:, None]
        causal_TT = torch.ones(self.width, self.width, dtype=torch.bool, device=device).tril()
        shape = (len(self.lengths), self.width)
        own = causal_TT.expand(*shape, self.width)
        return torch.cat([prefix_BP[:, None].expand(*shape, longest), own], -1)[:, None]


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    packing: Packing | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Compute scaled dot-product attention; within `packing` no token sees another row's."""
    if packing is None:
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return output, None
    layer: Any = module.layer_idx
    if packing.kept is not None:
        packing.kept[layer] = torch.stack([key[0], value[0]])
    keys, values = packing.with_prefix(layer, packing.spread(key), packing.spread(value))
    query = packing.spread(query)
    # Without a prefix there is no mask: rows begin at column 0, so causal attention is enough, and
    # what empty columns at their ends compute is not packed again.
    spread, _ = sdpa_attention_forward(module, query, keys, values, packing.mask_B1TP, **kwargs)
    return packing.packed(spread), None


AttentionInterface.register(ATTENTION, packed_attention)
# Unpacked passes, above all those of `generate`, keep the usual mask.
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def packed_inputs(
    rows: Sequence[list[int]], scored: Sequence[range], packing: Packing
) -> dict[str, Any]:
    """Return the keyword arguments of a forward pass over rows of token ids.

    Its output layer sees, row by row, the positions in `scored`, counted in each row.
    """
    device = packing.places_S.device
    shared = [start[1] if start else 0 for start in packing.starts]
    ids = [i for row, before in zip(rows, shared, strict=True) for i in row[before:]]
    positions = [
        position
        for row, before, own in zip(rows, packing.before, shared, strict=True)
        for position in range(before + own, before + len(row))
    ]
    kept = [cells[i] for cells, span in zip(packing.cells, scored, strict=True) for i in span]
    return {
        "input_ids": torch.tensor([ids], device=device),
        "position_ids": torch.tensor([positions], device=device),
        # Four dimensions tell `transformers` to make no mask; the attention above reads none.
        "attention_mask": torch.zeros(1, 1, 1, 1, device=device),
        "logits_to_keep": torch.tensor(kept, device=device, dtype=torch.long),
        "use_cache": False,
        "packing": packing,
    }


def packs(model: Any, longest: int) -> bool:
    """Return whether the model computes packed rows of up to `longest` tokens as single ones.

    The model itself is tried: two short rows go through it together and apart. Models whose layers
    carry state from token to token in other ways, or that ignore the attention implementation,
    differ.
    """
    config = model.config.get_text_config()
    window, before = getattr(config, "sliding_window", None), config._attn_implementation
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if before != "sdpa" or (window and window < longest) or not kinds <= ATTENDING:
        return False
    model.set_attn_implementation(ATTENTION)
    if _same_apart(model):
        return True
    model.set_attn_implementation(before)
    return False


@torch.no_grad()
def _same_apart(model: Any) -> bool:
    """Return whether two short rows give the same logits packed together and each alone."""
    size = min(model.get_input_embeddings().num_embeddings, 97)
    device = model.get_input_embeddings().weight.device
    rows = [[(7 * i + 3) % size for i in range(6)], [(5 * i + 1) % size for i in range(9)]]
    training = model.training
    model.eval()
    try:
        inputs = packed_inputs(rows, [range(6), range(9)], Packing([6, 9], device))
        together = model(**inputs).logits[0].float()
        apart = [model(input_ids=torch.tensor([row], device=device)).logits[0] for row in rows]
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):
        return False
    finally:
        model.train(training)
    expected = torch.cat(apart).float()
    scale = expected.abs().max().clamp_min(1e-6)
    tolerance = 1e-4 if next(model.parameters()).dtype == torch.float32 else 0.05
    return together.shape == expected.shape and bool(
        ((together - expected).abs().max() / scale) < tolerance
    )
