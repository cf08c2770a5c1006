"""Positions: where tokens are, as numbers a network can add or multiply.

They depend on sizes alone, never on a frame.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_TEMPERATURE = 10_000.0


def make_sine_grid(side: int, channels: int) -> Tensor:
    """(side * side, channels) sines of a square grid's positions from 1/side to 1, first half y, then x (as DETR)."""
    features = channels // 2
    where = torch.arange(1, side + 1) / (side + 1e-6) * (2 * math.pi)
    index = torch.arange(features)
    scale = _TEMPERATURE ** (2 * torch.div(index, 2, rounding_mode="floor") / features)
    angle = where[:, None] / scale
    line = torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=2).flatten(1)
    rows = line[:, None].expand(side, side, features)
    columns = line[None, :].expand(side, side, features)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)


def make_rotations(side: int, channels: int) -> Tensor:
    """(side * side, channels / 2) complex: the rotary encoding of a grid in whole tokens, first half x, then y."""
    steps = _TEMPERATURE ** -(torch.arange(0, channels // 2, 2) / (channels // 2))
    angle = torch.arange(side)[:, None] * steps
    columns = angle[None, :].expand(side, side, -1)
    rows = angle[:, None].expand(side, side, -1)
    angles = torch.cat([columns, rows], dim=2).flatten(0, 1)
    return torch.polar(torch.ones_like(angles), angles)


def rotate(tokens: Tensor, rotation: Tensor) -> Tensor:
    """(…, N, heads, C) tokens turned by (…, N, C / 2) `make_rotations`, neighbouring channels in pairs; there is no complex bfloat16."""
    pairs = torch.view_as_complex(tokens.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotation.unsqueeze(-2)).flatten(-2).to(tokens.dtype)


def make_cell_centres(side: int) -> Tensor:
    """(side, side, 2) centres (x, y) of the cells of a square grid, in 0..1."""
    line = (torch.arange(side) + 0.5) / side
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)


def encode_ages(ages: Tensor, channels: int) -> Tensor:
    """(…, channels) sines of ages, first all sines, then all cosines."""
    half = channels // 2
    index = torch.arange(half, device=ages.device)
    scale = _TEMPERATURE ** (2 * torch.div(index, 2, rounding_mode="floor") / half)
    angle = ages[..., None] / scale
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
