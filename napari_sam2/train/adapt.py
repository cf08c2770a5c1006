"""Abilities that a network gets for training, because its own weights lack them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from napari_sam2.models.network.sam2_network import Sam2Network
from napari_sam2.train.recipe import Ability

# The single mask starts as a copy of this one of the three masks, whose token is trained.
_COPIED_MASK = 2

_FIELDS = {"carried": "propagated_mask"}  # abilities by the names that recipes on disk use


def add_abilities(network: Sam2Network, abilities: Sequence[Ability]) -> Sam2Network:
    """Return a network with these abilities that predicts as before.

    New weights start as zeros or as copies. The network itself is returned if it has them all.
    """
    names = [_FIELDS.get(name, name) for name in abilities]
    new: dict[str, Any] = {name: True for name in names if not getattr(network.configuration, name)}
    if not new:
        return network
    made = Sam2Network(replace(network.configuration, **new))
    made.load_state_dict(network.state_dict(), strict=False)
    with torch.no_grad():
        if "pointer_time" in new:
            made.temporal_positional_encoding_projection_layer.weight.zero_()
            made.temporal_positional_encoding_projection_layer.bias.zero_()
        if "single_mask" in new:
            _copy_single_mask(made)
    return made


def _copy_single_mask(network: Sam2Network) -> None:
    decoder = network.mask_decoder
    decoder.mask_tokens.weight[0] = decoder.mask_tokens.weight[_COPIED_MASK]
    decoder.output_hypernetworks_mlps[0].load_state_dict(
        decoder.output_hypernetworks_mlps[_COPIED_MASK].state_dict()
    )
    last = decoder.iou_prediction_head.proj_out
    last.weight[0], last.bias[0] = (
        last.weight[_COPIED_MASK].clone(),
        last.bias[_COPIED_MASK].clone(),
    )
