"""Our own small image encoder: convolutions learn from few images what a Hiera does not."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The input is normalised by these; the weights were trained so.
_MEAN, _STD = 0.45, 0.25
# At strides 2, 4, 8, 16 and 32.
_CHANNELS = (24, 48, 96, 160, 192)


class ConvEncoder(nn.Module):
    """From (B, 1, S, S) grey values in 0..1 to `hidden` channels at strides 4, 8 and 16.

    S is a multiple of 32. `outline` predicts foreground, boundary and background at stride 4; only
    training uses it.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.stem = _DownsamplingStage(1, _CHANNELS[0], residuals=0)
        self.stages = nn.ModuleList(
            _DownsamplingStage(_CHANNELS[i], _CHANNELS[i + 1], residuals=count)
            for i, count in enumerate((1, 2, 2, 1))
        )
        self.lateral = nn.ModuleList(
            _OneDnnConv2d(channels, hidden, 1) for channels in _CHANNELS[1:]
        )
        self.norms = nn.ModuleList(_make_norm(hidden) for _ in range(3))
        self.outline = _OneDnnConv2d(hidden, 3, 1)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.compute_levels(self.compute_stem(pixels))

    def compute_stem(self, pixels: Tensor) -> Tensor:
        """Features at stride 2."""
        x: Tensor = self.stem((pixels - _MEAN) / _STD)
        # Twice as fast on a CPU; the following layers keep the format.
        return x.contiguous(memory_format=torch.channels_last)

    def compute_levels(self, stem: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features at strides 4, 8 and 16 from those at stride 2."""
        x, bottom_up = stem, []
        for stage in self.stages:
            x = stage(x)
            bottom_up.append(x)
        level = self.lateral[3](bottom_up[3])
        levels = []
        for index in (2, 1, 0):
            level = self.lateral[index](bottom_up[index]) + F.interpolate(level, scale_factor=2.0)
            levels.append(self.norms[index](level))
        return levels[2], levels[1], levels[0]


class _OneDnnConv2d(nn.Conv2d):
    """A convolution that uses oneDNN, if it is available, for single images too.

    PyTorch computes a single small image with other kernels, whose last digits differ. Features
    would then depend on the batch, and a resumed run would not end as an uninterrupted one.
    """

    def forward(self, x: Tensor) -> Tensor:
        if (
            torch.is_grad_enabled()
            or torch.is_autocast_enabled("cpu")
            or x.device.type != "cpu"
            or not torch.backends.mkldnn.is_available()
        ):
            return super().forward(x)
        padding = cast(tuple[int, ...], self.padding)
        return torch.mkldnn_convolution(
            x, self.weight, self.bias, padding, self.stride, self.dilation, self.groups
        )


class _DownsamplingStage(nn.Module):
    """A convolution of stride 2, then residual blocks."""

    def __init__(self, channels: int, out: int, *, residuals: int) -> None:
        super().__init__()
        self.conv = _OneDnnConv2d(channels, out, 3, stride=2, padding=1, bias=False)
        self.norm = _make_norm(out)
        self.residuals = nn.Sequential(*(_ResidualBlock(out) for _ in range(residuals)))

    def forward(self, x: Tensor) -> Tensor:
        return self.residuals(F.relu(self.norm(self.conv(x)), inplace=True))


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _OneDnnConv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = _make_norm(channels)
        self.conv2 = _OneDnnConv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = _make_norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(x + self.norm2(self.conv2(y)))


def _make_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(8, channels)
