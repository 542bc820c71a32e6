"""A seed per row: the same draw whatever the batch, and draws of the right distribution."""

from __future__ import annotations

import torch

from raft_core.engines.sampling import SeededChoice, SeededNoise, SeededSampling

NOTHING = torch.zeros(1, 0, dtype=torch.long)


def draws(logits_V: torch.Tensor, count: int, temperature: float, top_p: float = 1.0) -> list[int]:
    processor = SeededSampling(range(count), temperature, top_p)
    return processor(NOTHING, logits_V.expand(count, -1)).argmax(-1).tolist()


def test_seeded_sampling_row_does_not_depend_on_its_batch() -> None:
    rng = torch.Generator().manual_seed(1)
    scores_BV = torch.randn(6, 50, generator=rng)
    together = SeededSampling(range(6), 0.9)(NOTHING, scores_BV)
    for row in range(6):
        alone = SeededSampling([row], 0.9)(NOTHING, scores_BV[row : row + 1])
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=0)


def test_seeded_sampling_next_token_new_noise() -> None:
    processor, scores = SeededSampling([3], 1.0), torch.zeros(1, 50)
    assert not torch.equal(processor(NOTHING, scores), processor(NOTHING, scores))


def test_seeded_sampling_shares_follow_the_softmax_at_its_temperature() -> None:
    # softmax(ln(1, 2, 5) / 2) = sqrt(1, 2, 5) / (1 + 1.414 + 2.236) = 0.215, 0.304, 0.481
    drawn = draws(torch.tensor([1.0, 2.0, 5.0]).log(), 20_000, temperature=2.0)
    shares = [drawn.count(i) / len(drawn) for i in range(3)]
    torch.testing.assert_close(
        torch.tensor(shares), torch.tensor([0.215, 0.304, 0.481]), atol=0.012, rtol=0
    )


def test_seeded_sampling_nucleus_drops_the_tail_and_only_the_tail() -> None:
    # 0.5 + 0.3 reach 0.8, so 0.15 and 0.05 are never drawn
    drawn = draws(torch.tensor([0.5, 0.3, 0.15, 0.05]).log(), 4000, 1.0, top_p=0.8)
    assert set(drawn) == {0, 1}
    assert abs(drawn.count(0) / len(drawn) - 0.625) < 0.03


def test_seeded_noise_is_that_of_each_rows_generator() -> None:
    noise = SeededNoise([5, 6], torch.device("cpu"))
    generators = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    for _ in range(3):
        rows = [torch.empty(700).exponential_(generator=generator) for generator in generators]
        torch.testing.assert_close(noise.next(700), torch.stack(rows), rtol=1e-6, atol=0)


def test_seeded_choice_rows_that_stay_go_on_with_their_noise() -> None:
    scores_BV = torch.zeros(3, 50)
    whole, fewer = (SeededChoice([1, 2, 3], 1.0, 1.0, torch.device("cpu")) for _ in range(2))
    assert torch.equal(whole.tokens(scores_BV), fewer.tokens(scores_BV))
    fewer.keep([0, 2])
    for _ in range(4):
        assert torch.equal(whole.tokens(scores_BV)[[0, 2]], fewer.tokens(scores_BV[:2]))
