"""A running average of weights during training, which is more stable than the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential average of `weights`; with a decay of 0, the weights themselves."""

    def __init__(self, weights: Mapping[str, nn.Parameter], decay: float) -> None:
        self._weights = weights
        self._decay = decay
        self._means = (
            {name: value.detach().clone() for name, value in weights.items()} if decay else {}
        )

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the current weights after a step, counted from 1.

        Early steps have a lower decay, so that the initial weights are soon forgotten.
        """
        if self._means:
            share = 1 - min(self._decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(
                list(self._means.values()),
                [self._weights[name].detach() for name in self._means],
                share,
            )

    @contextmanager
    def use_average(self) -> Iterator[None]:
        """Use the average in place of the weights inside this context."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages by name, on the CPU."""
        return {name: value.cpu().clone() for name, value in self._means.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        for name, value in self._means.items():
            value.copy_(state[name])

    @torch.no_grad()
    def _swap(self) -> None:
        for name, mean in self._means.items():
            weight = self._weights[name]
            held = weight.detach().clone()
            weight.copy_(mean)
            mean.copy_(held)
