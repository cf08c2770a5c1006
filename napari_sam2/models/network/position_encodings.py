"""Position encodings of tokens in space and time. They depend on sizes only, not on a frame."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_TEMPERATURE = 10_000.0


def make_sine_grid(side: int, channels: int) -> Tensor:
    """(side * side, channels) sines of positions from 1/side to 1: first half y, then x (DETR)."""
    features = channels // 2
    line_positions = torch.arange(1, side + 1) / (side + 1e-6) * (2 * math.pi)
    index = torch.arange(features)
    scale = _TEMPERATURE ** (2 * torch.div(index, 2, rounding_mode="floor") / features)
    angle = line_positions[:, None] / scale
    line = torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=2).flatten(1)
    rows = line[:, None].expand(side, side, features)
    columns = line[None, :].expand(side, side, features)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)


def make_rotations(side: int, channels: int) -> Tensor:
    """(side * side, channels / 2) complex rotary encoding of a token grid: first half x, then y."""
    steps = _TEMPERATURE ** -(torch.arange(0, channels // 2, 2) / (channels // 2))
    angle = torch.arange(side)[:, None] * steps
    columns = angle[None, :].expand(side, side, -1)
    rows = angle[:, None].expand(side, side, -1)
    angles = torch.cat([columns, rows], dim=2).flatten(0, 1)
    return torch.polar(torch.ones_like(angles), angles)


def rotate(tokens: Tensor, rotation: Tensor) -> Tensor:
    """(…, N, heads, C) tokens rotated by (…, N, C / 2); neighbouring channels form pairs."""
    # In float32, because there is no complex bfloat16.
    pairs = torch.view_as_complex(tokens.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotation.unsqueeze(-2)).flatten(-2).to(tokens.dtype)


def make_cell_centres(side: int) -> Tensor:
    """(side, side, 2) cell centres (x, y) of a square grid, in 0..1."""
    line = (torch.arange(side) + 0.5) / side
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)


def encode_ages(ages: Tensor, channels: int) -> Tensor:
    """(…, channels) encoding of ages: first all sines, then all cosines."""
    half = channels // 2
    index = torch.arange(half, device=ages.device)
    scale = _TEMPERATURE ** (2 * torch.div(index, 2, rounding_mode="floor") / half)
    angle = ages[..., None] / scale
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
