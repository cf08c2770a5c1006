"""The architecture of a network: published ones by name, others inferred from a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from torch import Tensor

from napari_sam2.core.card import from_file_names, to_file_names
from napari_sam2.core.errors import CheckpointError
from napari_sam2.core.sam2_constants import MEMORY_SLOTS

Encoder = Literal["hiera", "conv"]

MEMORY_CHANNELS = 64
"""Channels of memory features, fixed by the cross-attention of transformers."""


_FILE_NAMES = {"propagated_mask": "carried"}


@dataclass(frozen=True)
class Configuration:
    """The architecture of a network.

    It has no image size, because a network takes any input side that is a multiple of 32.

    Parameters
    ----------
    encoder
        "hiera" as in SAM 2, or "conv", our own small one, which ignores the next six fields.
    width, blocks, heads
        Hiera's channels and heads in the first stage, which double with each stage, and its blocks
        per stage.
    global_blocks, windows, background
        Hiera's blocks with global attention, the attention window of each stage, and the grid of
        the background position embedding.
    hidden
        Channels of features, prompts and pointers.
    memory_layers, feed_forward
        Layers of the memory attention, and the width of their feed-forward part.
    decoder_feed_forward, iou_hidden, fuser
        Widths inside the mask decoder, its IoU head, and the fuser of the memory encoder.
    slots
        Temporal slots of memory: one for conditioning frames, the rest for tracked frames.
    pointer_time, occlusion
        Features of SAM 2.1 that SAM 2 lacks: a temporal encoding of pointers, and a memory
        embedding for absent objects.
    dense_prompts
        Clicks and boxes are also drawn as a dense prompt, because small networks miss the click
        otherwise.
    previous_logits
        The network was trained with previous logits beside corrections; otherwise it does not get
        them.
    single_mask
        The token of the single mask was trained; otherwise the best of the three alternatives is
        the answer.
    presence_head
        The presence score was trained; otherwise the largest logit replaces it, so that an empty
        mask is an absent object.
    propagated_mask
        The last mask is also a dense prompt on the next frame, because small networks lose the
        object otherwise.
    refinement
        Masks are refined by convolutions at stride 4, see `MaskRefinement`.
    """

    encoder: Encoder = "hiera"
    width: int = 96
    blocks: tuple[int, ...] = (1, 2, 7, 2)
    heads: int = 1
    global_blocks: tuple[int, ...] = (5, 7, 9)
    windows: tuple[int, ...] = (8, 4, 14, 7)
    background: tuple[int, ...] = (7, 7)
    hidden: int = 256
    memory_layers: int = 4
    feed_forward: int = 2048
    decoder_feed_forward: int = 2048
    iou_hidden: int = 256
    fuser: int = 1024
    slots: int = MEMORY_SLOTS
    pointer_time: bool = True
    occlusion: bool = True
    dense_prompts: bool = False
    previous_logits: bool = True
    single_mask: bool = True
    presence_head: bool = True
    propagated_mask: bool = False
    refinement: bool = False

    def __post_init__(self) -> None:
        if self.encoder not in get_args(Encoder):
            raise CheckpointError(
                f"encoder {self.encoder!r}: expected one of {get_args(Encoder)!r}"
            )
        for name in ("blocks", "global_blocks", "windows", "background"):
            object.__setattr__(self, name, tuple(int(number) for number in getattr(self, name)))

    def to_json(self) -> str:
        """One line of JSON, for the metadata of a checkpoint."""
        return json.dumps(to_file_names(asdict(self), _FILE_NAMES))

    @classmethod
    def from_json(cls, text: str) -> Configuration:
        """The inverse of `to_json`. Raises CheckpointError for other text or unknown fields."""
        try:
            values = from_file_names(json.loads(text), _FILE_NAMES)
            unknown = sorted(set(values) - {field.name for field in fields(cls)})
        except (AttributeError, TypeError, ValueError) as error:
            raise CheckpointError(f"configuration {text[:80]!r}: expected a JSON object") from error
        if unknown:
            raise CheckpointError(
                f"configuration has unknown fields {unknown!r}; expected those of Configuration. "
                "Was it written by a newer version?"
            )
        return cls(**values)


PUBLISHED_CONFIGURATIONS: dict[str, Configuration] = {
    "tiny": Configuration(),
    "small": Configuration(blocks=(1, 2, 11, 2), global_blocks=(7, 10, 13)),
    "base-plus": Configuration(
        width=112, heads=2, blocks=(2, 3, 16, 3), global_blocks=(12, 16, 20), background=(14, 14)
    ),
    "large": Configuration(
        width=144, heads=2, blocks=(2, 6, 36, 4), global_blocks=(23, 33, 43), windows=(8, 4, 16, 8)
    ),
}
"""The published sizes of SAM 2.1. Those of SAM 2 lack `pointer_time` and `occlusion`."""


def infer_configuration(state: Mapping[str, Tensor], **overrides: Any) -> Configuration:
    """The Configuration of a state dict with transformers' keys, inferred from its shapes.

    Shapes tell neither the blocks with global attention nor the number of heads: these are those of
    the published network of the same width and depth.

    Parameters
    ----------
    overrides
        Fields of Configuration that are not inferred.

    Raises
    ------
    CheckpointError
        SAM 2 has no such keys, or no published network has this width and depth and
        `global_blocks` is not given.
    """
    try:
        inferred = {**_infer_heads(state), **_infer_hiera(state)}
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(
            f"not a SAM 2 network: {error.args[0]!r} is missing; expected the weights of SAM 2 or "
            "2.1"
        ) from error
    published = next(
        (
            named
            for named in PUBLISHED_CONFIGURATIONS.values()
            if (named.width, named.blocks) == (inferred["width"], inferred["blocks"])
        ),
        None,
    )
    if published is None and "global_blocks" not in overrides:
        raise CheckpointError(
            f"no published network ({', '.join(PUBLISHED_CONFIGURATIONS)}) has width "
            f"{inferred['width']} and blocks {inferred['blocks']!r}: give a Configuration with "
            "global_blocks, which the weights do not tell"
        )
    return replace(published or Configuration(), **{**inferred, **overrides})


def _infer_hiera(state: Mapping[str, Tensor]) -> dict[str, Any]:
    trunk = "vision_encoder.backbone."
    channels, count = [], 0
    while f"{trunk}blocks.{count}.attn.proj.weight" in state:
        channels.append(state[f"{trunk}blocks.{count}.attn.proj.weight"].shape[0])
        count += 1
    return {
        "width": state[f"{trunk}patch_embed.projection.weight"].shape[0],
        "blocks": tuple(channels.count(stage) for stage in sorted(set(channels))),
        "background": tuple(state[f"{trunk}pos_embed"].shape[-2:]),
    }


def _infer_heads(state: Mapping[str, Tensor]) -> dict[str, Any]:
    layers = {key.split(".")[2] for key in state if key.startswith("memory_attention.layers.")}
    return {
        "hidden": state["no_memory_embedding"].shape[-1],
        "memory_layers": len(layers),
        "feed_forward": state["memory_attention.layers.0.linear1.weight"].shape[0],
        "decoder_feed_forward": state["mask_decoder.transformer.layers.0.mlp.proj_in.weight"].shape[
            0
        ],
        "iou_hidden": state["mask_decoder.iou_prediction_head.proj_in.weight"].shape[0],
        "fuser": state["memory_encoder.memory_fuser.layers.0.pointwise_conv1.weight"].shape[0],
        "slots": state["memory_temporal_positional_encoding"].shape[0],
        "pointer_time": "temporal_positional_encoding_projection_layer.weight" in state,
        "occlusion": "occlusion_spatial_embedding_parameter" in state,
    }
