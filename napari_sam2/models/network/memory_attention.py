"""Memory attention: the features of a frame conditioned on the memories of each track.

The layers of transformers hold the weights. Their order is ours, so that tracks share what is the
same for all (the first self-attention and the queries of the first cross-attention), and keys are
rotated once, in place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Sam2VideoConfig
from transformers.models.sam2_video.modeling_sam2_video import (
    Sam2VideoMemoryAttentionLayer,
    Sam2VideoRoPEAttention,
)

from napari_sam2.models.network.position_encodings import rotate

# Weight of the position encoding that is added to the frame's features (Meta's
# `pos_enc_at_input`).
_POSITION_WEIGHT = 0.1


@dataclass(frozen=True, eq=False)
class MemoryTokens:
    """The memories of B tracks: n frames of N tokens each, then p pointer tokens.

    Parameters
    ----------
    values
        (B, n * N + p, 64) memories.
    positions
        (B, n * N + p, 64) position encodings in space and time.
    pointer_tokens
        p.
    rotation
        Rotary encoding of the tokens of frames: (N, C / 2) for each frame, or (B, n * N, C / 2).
    """

    values: Tensor
    positions: Tensor
    pointer_tokens: int
    rotation: Tensor


class MemoryAttention(nn.Module):
    """Layers of self-attention over a frame's tokens and cross-attention to memory."""

    def __init__(self, config: Sam2VideoConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Sam2VideoMemoryAttentionLayer(config) for _ in range(config.memory_attention_num_layers)
        )
        self.layer_norm = nn.LayerNorm(config.memory_attention_hidden_size)

    def forward(
        self, tokens: Tensor, positions: Tensor, rotation: Tensor, memory: MemoryTokens
    ) -> Tensor:
        """The (B, N, C) tokens of a frame, conditioned on memory.

        Parameters
        ----------
        tokens
            (1 or B, N, C).
        positions
            (…, N, C).
        rotation
            (…, N, C / 2).
        memory
            Of B tracks.
        """
        keys = memory.values + memory.positions
        x = tokens + _POSITION_WEIGHT * positions
        for layer in cast(Iterable[Any], self.layers):
            y = layer.layer_norm1(x)
            x = x + layer.dropout1(_attend(layer.self_attn, y, (y, y), (rotation, rotation)))
            y = layer.layer_norm2(x)
            x = x + layer.dropout2(
                _attend(
                    layer.cross_attn_image,
                    y,
                    (keys, memory.values),
                    (rotation, memory.rotation),
                    unrotated=memory.pointer_tokens,
                )
            )
            y = layer.layer_norm3(x)
            x = x + layer.dropout3(layer.linear2(layer.dropout(layer.activation(layer.linear1(y)))))
        return self.layer_norm(x)


def _attend(
    layer: Sam2VideoRoPEAttention,
    tokens: Tensor,
    memory: tuple[Tensor, Tensor],
    rotations: tuple[Tensor, Tensor],
    unrotated: int = 0,
) -> Tensor:
    """Rotary attention of (1 or B, N, C) tokens to memory.

    Parameters
    ----------
    memory
        Keys and values, (B, n * N + unrotated, c) each.
    rotations
        Of tokens and of keys.
    unrotated
        The last keys, which have no position in space.
    """
    heads = layer.num_attention_heads
    query = rotate(layer.q_proj(tokens).unflatten(-1, (heads, -1)), rotations[0]).transpose(1, 2)
    key = _rotate_keys(
        layer.k_proj(memory[0]).unflatten(-1, (heads, -1)), rotations[1], unrotated
    ).transpose(1, 2)
    value = layer.v_proj(memory[1]).unflatten(-1, (heads, -1)).transpose(1, 2)
    query = query.expand(key.shape[0], -1, -1, -1)
    dropout = layer.dropout_p if layer.training else 0.0
    answer = F.scaled_dot_product_attention(
        query, key, value, dropout_p=dropout, scale=layer.scaling
    )
    return layer.o_proj(answer.transpose(1, 2).flatten(2))


def _rotate_keys(keys: Tensor, rotation: Tensor, unrotated: int) -> Tensor:
    """(B, n * N + unrotated, heads, C) keys, rotated in place if nothing trains.

    All n frames share a (N, C / 2) rotation; with (B, n * N, C / 2) each token has its own.
    """
    count = keys.shape[1] - unrotated
    frames = (-1, rotation.shape[0]) if rotation.ndim == 2 else (1, rotation.shape[1])
    spatial = keys[:, :count].unflatten(1, frames)
    rotated = rotate(spatial, rotation if rotation.ndim == 2 else rotation[:, None])
    if not keys.requires_grad:
        spatial.copy_(rotated)
        return keys
    return torch.cat([rotated.flatten(1, 2), keys[:, count:]], dim=1)
