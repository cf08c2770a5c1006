"""Average: the running mean of weights while they train, steadier than any of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential mean of `weights` with this decay; 0 is no mean at all, the weights themselves."""

    def __init__(self, weights: Mapping[str, nn.Parameter], decay: float) -> None:
        self._weights = weights
        self._decay = decay
        self._means = (
            {name: value.detach().clone() for name, value in weights.items()} if decay else {}
        )

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take up the weights as they are after this step, from 1; early steps count more, so that the start is soon forgotten."""
        if self._means:
            share = 1 - min(self._decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(
                list(self._means.values()),
                [self._weights[name].detach() for name in self._means],
                share,
            )

    @contextmanager
    def use_average(self) -> Iterator[None]:
        """The mean in place of the weights, for as long as this lasts."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state_dict(self) -> dict[str, Tensor]:
        """The means by name, on the CPU."""
        return {name: value.cpu().clone() for name, value in self._means.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        for name, value in self._means.items():
            value.copy_(state[name])

    @torch.no_grad()
    def _swap(self) -> None:
        for name, mean in self._means.items():
            weight = self._weights[name]
            held = weight.detach().clone()
            weight.copy_(mean)
            mean.copy_(held)
