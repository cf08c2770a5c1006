"""Taught: a network that can learn what the one it comes from was never trained for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from napari_sam2.models.network.sam2_network import Network
from napari_sam2.train.recipe import Learnable

# the alternative that the single mask begins as: it was trained, the token for a single mask was
# not
_TWIN = 2


def taught(network: Network, learns: Sequence[Learnable]) -> Network:
    """The network itself, or one with these abilities that answers as it did: what is new begins as nothing, or as a copy."""
    new: dict[str, Any] = {
        name: True for name in learns if not getattr(network.configuration, name)
    }
    if not new:
        return network
    made = Network(replace(network.configuration, **new))
    made.load_state_dict(network.state_dict(), strict=False)
    with torch.no_grad():
        if "pointer_time" in new:
            made.temporal_positional_encoding_projection_layer.weight.zero_()
            made.temporal_positional_encoding_projection_layer.bias.zero_()
        if "single_mask" in new:
            _copied(made)
    return made


def _copied(network: Network) -> None:
    decoder = network.mask_decoder
    decoder.mask_tokens.weight[0] = decoder.mask_tokens.weight[_TWIN]
    decoder.output_hypernetworks_mlps[0].load_state_dict(
        decoder.output_hypernetworks_mlps[_TWIN].state_dict()
    )
    last = decoder.iou_prediction_head.proj_out
    last.weight[0], last.bias[0] = last.weight[_TWIN].clone(), last.bias[_TWIN].clone()
