"""Weight of a distillation loss (eqs. 11-12): plain numbers, never part of the graph."""

from __future__ import annotations

from raft_core.distill.config import BalanceConfig


class AdaptiveBalance:
    """lambda = m_SFT / m_KL over bias-corrected moving averages, so that lambda * L_KL ~ L_SFT.

    Update once per optimizer step, with losses averaged over all processes; T^2 is already in
    the KL. `steps` is the length of the training, over which the ramp goes.
    """

    def __init__(self, config: BalanceConfig, steps: int = 1) -> None:
        self._config, self._steps = config, steps
        self._step, self._sft, self._kl = 0, 0.0, 0.0

    def update(self, sft_loss: float, kl_loss: float) -> float:
        """Take in one step's losses and return the new lambda."""
        beta = self._config.beta
        self._step += 1
        self._sft = beta * self._sft + (1 - beta) * sft_loss
        self._kl = beta * self._kl + (1 - beta) * kl_loss
        return self.weight

    @property
    def weight(self) -> float:
        """Current lambda; before the first update 1, or the fixed value."""
        start, end = self._config.ramp
        done = min(1.0, max(0, self._step - 1) / max(1, self._steps - 1))
        return self._unscaled * (start + (end - start) * done)

    @property
    def _unscaled(self) -> float:
        if self._config.rule == "fixed":
            return self._config.fixed
        if self._step == 0:
            return 1.0
        correction = 1 - self._config.beta**self._step
        sft, kl = self._sft / correction, self._kl / correction
        return min(sft / max(kl, self._config.kl_floor), self._config.lambda_max)

    @property
    def is_clamped(self) -> bool:
        """Whether the ratio stands at lambda_max, whatever the ramp makes of it."""
        return self._config.rule == "ema" and self._unscaled >= self._config.lambda_max

    def state_dict(self) -> dict[str, float]:
        """Return the moving averages, for a checkpoint."""
        return {"step": self._step, "sft": self._sft, "kl": self._kl}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restore the moving averages of a checkpoint."""
        self._step, self._sft, self._kl = int(state["step"]), state["sft"], state["kl"]
