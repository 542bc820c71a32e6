"""Seeds of requests, and prompts that do not fit."""

from __future__ import annotations

from raft_core.engines.base import Completion, complete_fitting, request_seed


def test_request_seed_depends_on_every_part_and_on_nothing_else() -> None:
    assert request_seed(0, "fuse", 1, "a") == request_seed(0, "fuse", 1, "a")
    seeds = {request_seed(s, k, r, i) for s in (0, 1) for k in "xy" for r in (0, 1) for i in "ab"}
    assert len(seeds) == 16
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_request_seed_parts_do_not_run_together() -> None:
    assert request_seed("ab", "c") != request_seed("a", "bc")


def test_complete_fitting_long_prompt_kept_in_place_with_its_reason() -> None:
    asked: list[int] = []

    def complete(rows: list[int]) -> list[Completion]:
        asked.extend(rows)
        return [Completion(f"answer {i}", (1,), "stop") for i in rows]

    told: list[int] = []
    done = complete_fitting([[1], [1] * 8, [1] * 7], 8, complete, lambda i, _: told.append(i))
    assert asked == [0, 2]
    assert told == [1]
    assert [c.text for c in done] == ["answer 0", "", "answer 2"]
    assert (done[1].finish_reason, done[1].error) == (
        "too_long",
        "8 prompt tokens, the model takes 8",
    )
