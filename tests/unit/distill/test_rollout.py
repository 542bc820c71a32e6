"""When rollouts are drawn anew, and which weights an engine is given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from raft_core.distill.batches.views import RowView
from raft_core.distill.models import store_by_columns
from raft_core.distill.rollout.rollout import (
    Asked,
    RolloutSource,
    TransformersRollouts,
    student_weights,
)
from raft_core.engines.base import Sampling

STOP = 9


class Counting:
    """Draws [call, STOP] for every prompt."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[list[int]], list[int]]] = []

    def sample(
        self, student: Any, prompts: Sequence[list[int]], seeds: Sequence[int]
    ) -> list[list[int]]:
        self.calls.append((list(prompts), list(seeds)))
        return [[len(self.calls), STOP] for _ in prompts]


def view(name: str) -> RowView:
    return RowView(name, name, [1], [], [1], answer_cut=False, reference_cut=False)


def test_rollouts_by_default_are_drawn_at_every_visit() -> None:
    source = RolloutSource(Counting(), [STOP])
    drawn = [source.draw(None, [view("a")], 0, step) for step in range(3)]
    assert drawn == [[[1, STOP]], [[2, STOP]], [[3, STOP]]]


def test_rollouts_used_twice_are_drawn_at_every_second_visit() -> None:
    sampler = Counting()
    source = RolloutSource(sampler, [STOP], uses=2)
    first = source.draw(None, [view("a")], 0, 0)
    second = source.draw(None, [view("a"), view("b")], 0, 1)
    third = source.draw(None, [view("a"), view("b")], 0, 2)
    assert (first, second, third) == ([[1, STOP]], [[1, STOP], [2, STOP]], [[3, STOP], [2, STOP]])
    assert [len(prompts) for prompts, _ in sampler.calls] == [1, 1, 1]


def test_rollouts_state_goes_on_where_it_stopped() -> None:
    source = RolloutSource(Counting(), [STOP], uses=2)
    source.draw(None, [view("a")], 0, 0)
    resumed = RolloutSource(Counting(), [STOP], uses=2)
    resumed.load_state_dict(source.state_dict())
    assert resumed.draw(None, [view("a")], 0, 1) == source.draw(None, [view("a")], 0, 1)


def test_rollouts_seeds_differ_by_run_step_and_row() -> None:
    sampler = Counting()
    source = RolloutSource(sampler, [STOP])
    for seed, step in ((0, 0), (0, 1), (1, 0)):
        source.draw(None, [view("a"), view("b")], seed, step)
    seeds = [seed for _, seeds in sampler.calls for seed in seeds]
    assert len(set(seeds)) == 6


def test_rollouts_of_coming_steps_are_drawn_in_the_same_batch() -> None:
    sampler = Counting()
    source = RolloutSource(sampler, [STOP])
    coming = [Asked(0, [view("b")]), Asked(1, [view("a"), view("c")])]
    drawn = [
        source.draw(None, [view("a")], 0, 0, lambda: coming),
        source.draw(None, [view("b")], 0, 0, lambda: coming[1:]),
        source.draw(None, [view("a"), view("c")], 0, 1),
    ]
    assert drawn == [[[1, STOP]], [[1, STOP]], [[1, STOP], [1, STOP]]]
    alone = Counting()
    for step, names in ((0, "a"), (0, "b"), (1, "ac")):
        RolloutSource(alone, [STOP]).draw(None, [view(name) for name in names], 0, step)
    assert sampler.calls[0][1] == [seed for _, seeds in alone.calls for seed in seeds]


def test_rollouts_drawn_ahead_are_part_of_the_state() -> None:
    source = RolloutSource(Counting(), [STOP])
    source.draw(None, [view("a")], 0, 0, lambda: [Asked(1, [view("a")])])
    sampler = Counting()
    resumed = RolloutSource(sampler, [STOP])
    resumed.load_state_dict(json.loads(json.dumps(source.state_dict())))
    assert resumed.draw(None, [view("a")], 0, 1) == [[1, STOP]]
    assert not sampler.calls
    assert resumed.state_dict() == {"kept": [], "ahead": [], "last": [["a", "a", [1, STOP]]]}


def test_rollouts_of_a_step_that_is_over_are_dropped() -> None:
    source = RolloutSource(Counting(), [STOP], uses=2)
    source.draw(None, [view("a")], 0, 0, lambda: [Asked(1, [view("b")]), Asked(2, [view("c")])])
    source.draw(None, [view("c")], 0, 2)
    assert not source.state_dict()["ahead"]


def test_has_ended_only_with_a_stop_token() -> None:
    source = RolloutSource(Counting(), [STOP])
    assert [source.has_ended(ids) for ids in ([1, STOP], [1, 2], [])] == [True, False, False]


def tiny_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=11, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
            num_attention_heads=2, tie_word_embeddings=True,
        )
    )  # fmt: skip


def test_student_weights_name_the_tied_output_matrix_too() -> None:
    model = tiny_model()
    weights = student_weights(model)
    assert set(weights) == {*dict(model.named_parameters()), "lm_head.weight"}
    assert torch.equal(weights["lm_head.weight"], model.model.embed_tokens.weight)


def test_student_weights_of_an_adapter_equal_the_merged_model() -> None:
    student = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules="all-linear"))
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    weights = student_weights(student)
    merged = dict(student.merge_and_unload().named_parameters())
    assert set(weights) == {*merged, "lm_head.weight"}
    for name, parameter in merged.items():
        torch.testing.assert_close(weights[name], parameter)


def test_store_by_columns_changes_no_number_and_no_result() -> None:
    plain, columns = tiny_model(), tiny_model()
    store_by_columns(columns)
    assert columns.model.layers[0].mlp.up_proj.weight.stride() == (1, 8)
    ids_BT = torch.tensor([[1, 2, 3, 4]])
    for model in (plain, columns):
        model(input_ids=ids_BT, labels=ids_BT).loss.backward()
    for one, other in zip(plain.parameters(), columns.parameters(), strict=True):
        assert torch.equal(one, other)
        torch.testing.assert_close(one.grad, other.grad)


def test_transformers_rollouts_cast_weights_once_for_all_tokens() -> None:
    student = tiny_model()
    inner = student.forward

    def casting(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return inner(*args, **kwargs)

    student.forward = casting
    drawn = []
    for dtype in (None, torch.bfloat16):
        sampling = Sampling(temperature=1, max_tokens=6)
        rollouts = TransformersRollouts(sampling, [STOP], 0, autocast=dtype)
        drawn.append(rollouts.sample(student, [[1, 2], [3]], [4, 5]))
    assert drawn[0] == drawn[1]
    assert not torch.is_autocast_enabled("cpu")
    assert student.training
