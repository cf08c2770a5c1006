"""The learned detector: an encoder and a decoder that give four maps of a plane."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sam2.core.protocols import OBJECT_MAPS
from napari_sam2.models.network.conv_encoder import ConvEncoder

SMALLEST, LARGEST = 7.0, 80.0  # diameters in pixels that the network is trained on
STRIDE = 32  # the sides of an input are multiples of this

_PROTOTYPE_KEYS = {
    "enc": "encoder",
    "r4": "reduce4",
    "r8": "reduce8",
    "r16": "reduce16",
    "b8": "fuse8",
    "b4": "fuse4",
    "b2": "fuse2",
    "up": "expand",
    "out": "head",
}
_PROTOTYPE_BLOCK_KEYS = {"c1": "conv1", "n1": "norm1", "c2": "conv2", "n2": "norm2", "p": "project"}


class DetectorNetwork(nn.Module):
    """(B, 1, H, W) grey in 0..1, sides multiples of 32, to (B, 4, H, W) logits of `OBJECT_MAPS`.

    foreground
        Whether a pixel belongs to any object.
    boundary
        Distance to the object's own boundary, divided by the largest in that object.
    centre
        Distance to the object's innermost point, divided by the largest in that object.
    size
        log2(size in pixels) / `SIZE_OCTAVES` of the object a pixel belongs to: the diameter of
        round objects, nearer to the width of long ones (`train.detector.targets`).

    Parameters
    ----------
    encoder
        A `ConvEncoder` with 128 channels at strides 4, 8 and 16; its weights are trained along.
    """

    def __init__(self, encoder: ConvEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.reduce4, self.reduce8, self.reduce16 = (nn.Conv2d(128, 64, 1) for _ in range(3))
        self.fuse8, self.fuse4 = FusionBlock(64, 64), FusionBlock(64, 64)
        self.expand = nn.Conv2d(64, 32, 1)
        self.fuse2 = FusionBlock(32 + 24, 32)
        self.head = nn.Conv2d(32, len(OBJECT_MAPS), 1)

    def forward(self, pixels: Tensor) -> Tensor:
        stem = self.encoder.compute_stem(pixels)
        level4, level8, level16 = self.encoder.compute_levels(stem)
        x = self.fuse8(self.reduce8(level8) + _double(self.reduce16(level16)))  # stride 8
        x = self.fuse4(self.reduce4(level4) + _double(x))  # stride 4
        x = self.fuse2(torch.cat([_double(self.expand(x)), stem], 1))  # stride 2
        return _double(self.head(x))


class FusionBlock(nn.Module):
    """Two 3 × 3 convolutions with a residual connection, projected if the widths differ."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(8, out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(8, out)
        self.project = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.project(x) + self.norm2(self.conv2(y)))


def rename_prototype_keys(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the prototype of November 2026, named as in `DetectorNetwork`."""
    renamed = {}
    for key, tensor in tensors.items():
        first, *rest = key.split(".")
        if first.startswith("b"):
            rest[0] = _PROTOTYPE_BLOCK_KEYS[rest[0]]
        renamed[".".join([_PROTOTYPE_KEYS[first], *rest])] = tensor.float()
    return renamed


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear")
