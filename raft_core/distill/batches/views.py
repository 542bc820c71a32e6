"""Token ids that the student and the teacher read of a row.

The student reads the question; the teacher reads the target answer and the question, or, where it
is unconditioned, the question alone. Both prefixes end with the same assistant start, and the ids
that follow (an answer or a rollout) are appended to either, never tokenised again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from raft_core.data.records import FusedAnswer
from raft_core.distill.config import DistillConfig
from raft_core.engines.chat import encode_chats, encode_prompt, encode_text


@dataclass(frozen=True, slots=True)
class RowView:
    """Token ids of one training row; `teacher_ids` is the conditioned teacher's prefix."""

    id: str
    question: str
    prompt_ids: list[int]
    answer_ids: list[int]
    teacher_ids: list[int]
    answer_cut: bool
    reference_cut: bool


@dataclass(frozen=True, slots=True)
class Padded:
    """Prompts padded on the left and completions on the right, so that both start together.

    `mask_BC` marks the completions' tokens that bear a loss.
    """

    ids_BT: torch.Tensor
    attention_BT: torch.Tensor
    labels_BC: torch.Tensor
    mask_BC: torch.Tensor

    @property
    def model_inputs(self) -> dict[str, Any]:
        """Keyword arguments of a forward pass whose output layer sees C + 1 positions."""
        positions_BT = (self.attention_BT.cumsum(-1) - 1).clamp_min(0)
        return {
            "input_ids": self.ids_BT,
            "attention_mask": self.attention_BT,
            "position_ids": positions_BT,
            "logits_to_keep": self.labels_BC.shape[1] + 1,
            "use_cache": False,
        }


def build_view(
    row: FusedAnswer, tokenizer: Any, config: DistillConfig, turn_end: int
) -> RowView | None:
    """Encode a row, or return None if its question alone is over the budget.

    An answer over its budget is cut on the right and then has no end token; a reference is cut
    until the teacher's prompt fits.
    """
    prompt_ids = encode_prompt(tokenizer, row.question, config.enable_thinking)
    if len(prompt_ids) > config.max_prompt_tokens:
        return None
    answer_ids = [*encode_text(tokenizer, row.answer), turn_end]
    teacher_ids, reference_cut = _teacher_prefix(row, tokenizer, config)
    return RowView(
        id=row.id,
        question=row.question,
        prompt_ids=prompt_ids,
        answer_ids=answer_ids[: config.max_answer_tokens],
        teacher_ids=teacher_ids,
        answer_cut=len(answer_ids) > config.max_answer_tokens,
        reference_cut=reference_cut,
    )


def prompt_view(id: str, prompt: str, tokenizer: Any, config: DistillConfig) -> RowView | None:
    """Encode a prompt without an answer, which both sides read alike; None if it is too long."""
    ids = encode_prompt(tokenizer, prompt, config.enable_thinking)
    if len(ids) > config.max_prompt_tokens:
        return None
    return RowView(id, prompt, ids, [], ids, answer_cut=False, reference_cut=False)


def _teacher_prefix(
    row: FusedAnswer, tokenizer: Any, config: DistillConfig
) -> tuple[list[int], bool]:
    """Encode the teacher's prompt, the reference cut until it fits; tell whether it was cut."""
    prompt, reference, cut = config.teacher_prompt.load(), row.answer, False
    budget = config.max_prompt_tokens + config.max_answer_tokens
    while True:
        text = prompt.render(reference=reference, question=row.question)
        ids = encode_prompt(tokenizer, text, config.enable_thinking)
        if len(ids) <= budget or not reference:
            return ids, cut
        kept = encode_text(tokenizer, reference)
        # Half a character decodes to a replacement mark, which would grow when encoded again.
        shorter = tokenizer.decode(kept[: -(len(ids) - budget)]).rstrip("\ufffd")
        reference = shorter if len(shorter) < len(reference) else reference[:-1]
        cut = True


def turn_end_id(tokenizer: Any, stop_ids: Sequence[int]) -> int:
    """Return the token with which the chat template closes an assistant's turn.

    It is the first stop token after the assistant's start: templates close the user's turn with the
    same token, and some write a second one at the very end.
    """
    user = [{"role": "user", "content": "a"}]
    answered = [*user, {"role": "assistant", "content": "b"}]
    (before,) = encode_chats(tokenizer, [user], add_generation_prompt=True)
    (rendered,) = encode_chats(tokenizer, [answered])
    tail = rendered[min(len(before), len(rendered) - 1) :]
    return next((i for i in tail if i in stop_ids), tokenizer.eos_token_id)


def pad_rows(
    prompts: Sequence[list[int]],
    completions: Sequence[list[int]],
    pad_id: int,
    device: torch.device,
    skip: Sequence[int] | None = None,
) -> Padded:
    """Prompts and completions as one batch; `skip` says how many first tokens of each completion
    are left out of its mask.
    """
    left, right = max(map(len, prompts)), max(1, *map(len, completions))
    ids, attention, labels, mask = [], [], [], []
    for number, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        before, after = left - len(prompt), right - len(completion)
        skipped = min(skip[number], len(completion)) if skip else 0
        labels.append(completion + [pad_id] * after)
        mask.append([0] * skipped + [1] * (len(completion) - skipped) + [0] * after)
        ids.append([pad_id] * before + prompt + labels[-1])
        attention.append([0] * before + [1] * (len(prompt) + len(completion)) + [0] * after)
    return Padded(
        ids_BT=torch.tensor(ids, device=device),
        attention_BT=torch.tensor(attention, device=device),
        labels_BC=torch.tensor(labels, device=device),
        mask_BC=torch.tensor(mask, device=device, dtype=torch.float32),
    )
