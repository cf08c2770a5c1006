"""LoRA: small adapters on the linear and convolutional layers of a frozen encoder, by peft."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from napari_sam2.core.files.extras import LORA, import_extra
from napari_sam2.models.network.sam2_network import Sam2Network

_ENCODER = "vision_encoder."


def add_adapters(network: Sam2Network, rank: int) -> None:
    """Add adapters of `rank` to the image encoder; at first they change nothing.

    Raises MissingPackageError if the extra "lora" is not installed.
    """
    peft = import_extra("peft", LORA, 'training "lora"')
    names = [
        name
        for name, module in network.named_modules()
        if name.startswith(_ENCODER) and isinstance(module, nn.Linear | nn.Conv2d)
    ]
    names = [name for name in names if not name.endswith("outline")]
    frozen = {name for name, value in network.named_parameters() if not value.requires_grad}
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names)
    peft.inject_adapter_in_model(config, network)
    for name, value in network.named_parameters():  # peft freezes all other weights
        value.requires_grad_("lora_" in name or _strip_base_layer(name) not in frozen)


def merge_adapters(network: Sam2Network) -> dict[str, Tensor]:
    """Return the weights of the same network without adapters."""
    state = {
        _strip_base_layer(key): value
        for key, value in network.state_dict().items()
        if "lora_" not in key
    }
    for name, module in network.named_modules():
        layer: Any = module
        for adapter in (
            getattr(module, "active_adapters", ()) if hasattr(module, "get_delta_weight") else ()
        ):
            key = f"{name}.weight"
            state[key] = state[key] + layer.get_delta_weight(adapter).detach()
    return state


def _strip_base_layer(name: str) -> str:
    return name.replace(".base_layer", "")
