"""The network: SAM 2 in tensors, batched over tracks, of any input size.

Trainable; knows no frames, prompts or windows of ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Sam2VideoConfig
from transformers.models.sam2_video.configuration_sam2_video import (
    Sam2VideoMaskDecoderConfig,
    Sam2VideoPromptEncoderConfig,
)
from transformers.models.sam2_video.modeling_sam2_video import (
    Sam2VideoFeedForward,
    Sam2VideoMaskDecoder,
    Sam2VideoMemoryEncoder,
    Sam2VideoPositionalEmbedding,
    Sam2VideoPromptEncoder,
)

from napari_sam2.core.errors import ModelError
from napari_sam2.core.sam2_constants import MEMORY_MASK_BIAS, MEMORY_MASK_SCALE
from napari_sam2.models.network import prompt_tokens
from napari_sam2.models.network.configs import MEMORY_CHANNELS, Configuration
from napari_sam2.models.network.conv_encoder import ConvEncoder
from napari_sam2.models.network.hiera import HieraEncoder
from napari_sam2.models.network.mask_decoder import DecoderOutput, decode_masks
from napari_sam2.models.network.mask_refinement import MaskRefinement
from napari_sam2.models.network.memory_attention import MemoryAttention, MemoryTokens
from napari_sam2.models.network.position_encodings import (
    encode_ages,
    make_cell_centres,
    make_rotations,
    make_sine_grid,
)
from napari_sam2.models.precision import use_float32
from napari_sam2.models.weights.key_mapping import check_keys

STRIDE = 16
"""Input pixels per token of the coarsest features, which memories have too."""

MASK_STRIDE = 4
"""Input pixels per cell of a mask."""

Features = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class PositionEncodings:
    """Constants of one input size: of a frame's tokens, their rotation, of memory tokens, and of the decoder's grid."""

    image: Tensor
    rotation: Tensor
    memory: Tensor
    decoder: Tensor

    def select(self, cells: Tensor) -> PositionEncodings:
        """Those of some cells of the grid alone: (B, N) places, row by row, which are squares."""
        side = math.isqrt(cells.shape[1])
        decoder = self.decoder[0].flatten(1)[:, cells].transpose(0, 1).unflatten(2, (side, side))
        return PositionEncodings(
            self.image[cells], self.rotation[cells], self.memory[cells], decoder
        )


@dataclass(frozen=True, eq=False)
class TokenSelection:
    """The cells that B tracks are looked at by: (B, N) `indices` on a grid of `grid` × `grid` tokens, row by row."""

    indices: Tensor
    grid: int


@dataclass(frozen=True, eq=False)
class MemoryInputs:
    """What B tracks are shown of the past: n memories and p pointers each.

    features (B, n, N, 64); slots (B, n) whole numbers, 0 for conditioning frames; pointers (B, p,
    C); ages (B, p), in the unit the temporal encoding was trained with (1 is the oldest pointer
    shown). cells (B, n, N) are the places of memory tokens on the grid; all of it, row by row,
    where None.
    """

    features: Tensor
    slots: Tensor
    pointers: Tensor
    ages: Tensor
    token_indices: Tensor | None = None


class Sam2Network(nn.Module):
    """SAM 2, or a small relative with the same heads.

    Weights go by the names of transformers' Sam2VideoModel.
    """

    def __init__(self, configuration: Configuration) -> None:
        super().__init__()
        self.configuration = configuration
        self._positions: dict[tuple[int, torch.device], PositionEncodings] = {}
        hidden, config = configuration.hidden, _make_transformers_config(configuration)
        self.vision_encoder = (
            HieraEncoder(configuration) if configuration.encoder == "hiera" else ConvEncoder(hidden)
        )
        self.shared_image_embedding = Sam2VideoPositionalEmbedding(config.prompt_encoder_config)
        self.prompt_encoder = Sam2VideoPromptEncoder(config.prompt_encoder_config)
        self.mask_decoder = Sam2VideoMaskDecoder(config.mask_decoder_config)
        self.memory_attention = MemoryAttention(config)
        self.memory_encoder = Sam2VideoMemoryEncoder(config)
        self.mask_downsample = nn.Conv2d(1, 1, kernel_size=4, stride=4)
        self.object_pointer_proj = Sam2VideoFeedForward(hidden, hidden, hidden, 3)
        self.no_memory_embedding = nn.Parameter(torch.zeros(1, 1, hidden))
        self.no_memory_positional_encoding = nn.Parameter(
            torch.zeros(1, 1, hidden)
        )  # never read, but in every checkpoint
        self.memory_temporal_positional_encoding = nn.Parameter(
            torch.zeros(configuration.slots, 1, 1, MEMORY_CHANNELS)
        )
        self.no_object_pointer = nn.Parameter(torch.zeros(1, hidden))
        if configuration.pointer_time:
            self.temporal_positional_encoding_projection_layer = nn.Linear(hidden, MEMORY_CHANNELS)
        if configuration.occlusion:
            self.occlusion_spatial_embedding_parameter = nn.Parameter(
                torch.zeros(1, MEMORY_CHANNELS)
            )
        if configuration.refinement:
            self.refinement = MaskRefinement(hidden // 8)

    @classmethod
    def of(cls, configuration: Configuration, state: Mapping[str, Tensor]) -> Sam2Network:
        """The network with these weights, in float32, for inference.

        Raises CheckpointError where they do not fit.
        """
        with torch.device("meta"):
            network = cls(configuration)
        check_keys(state, network.state_dict())
        network.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
        return network.eval()

    def embed(self, pixels: Tensor) -> Features:
        """(B, 1, S, S) grey in 0..1 to features at strides 4, 8 and 16: (B, C / 8, …), (B, C / 4, …), (B, C, …)."""
        fine, middle, coarse = self.vision_encoder(pixels)
        return self.mask_decoder.conv_s0(fine), self.mask_decoder.conv_s1(middle), coarse

    def add_no_memory_embedding(self, coarse: Tensor) -> Tensor:
        """(1, C, g, g) features to the features of a frame that is answered without memory."""
        return coarse + self.no_memory_embedding[0, 0, :, None, None]

    def condition_on_memory(
        self, coarse: Tensor, memory: MemoryInputs, selection: TokenSelection | None = None
    ) -> Tensor:
        """(1 or B, C, g, g) features of a frame, or those `selection` of it, to (B, C, g, g), each as its track's memory sees them."""
        side = coarse.shape[-1]
        whole = self.get_position_encodings(selection.grid if selection else side, coarse.device)
        positions = whole.select(selection.indices) if selection else whole
        remembered = self._make_memory_tokens(memory, whole)
        tokens = self.memory_attention(
            coarse.flatten(2).transpose(1, 2), positions.image, positions.rotation, remembered
        )
        return tokens.transpose(1, 2).unflatten(2, (side, side))

    def decode(
        self,
        features: Features,
        image: Tensor,
        points: Tensor,
        labels: Tensor,
        logits: Tensor | None = None,
        selection: TokenSelection | None = None,
    ) -> DecoderOutput:
        """Masks of B tracks.

        Parameters
        ----------
        features, image
            Of the frame, batch 1, and what replaces their last (1 or B, C, g, g): (un)conditioned.
        points, labels
            (B, P, 2) as (x, y) in 0..1 of the whole grid and (B, P), without the padding point.
        logits
            (B, 4g, 4g) dense prompt, if any.
        selection
            The cells all these are of, where they are not the whole grid.
        """
        side = image.shape[-1]
        padding = (
            1 if points.shape[1] else 2
        )  # no points are one that is nothing, and it is padded as all are
        points = F.pad(points, (0, 0, 0, padding))
        labels = F.pad(labels, (0, padding), value=prompt_tokens.PADDING)
        sparse = prompt_tokens.encode_points(self.prompt_encoder, points, labels)
        image = (image + prompt_tokens.encode_mask(self.prompt_encoder, logits, side)).expand(
            len(points), -1, -1, -1
        )
        refined = partial(self._refine_masks, logits) if self.configuration.refinement else None
        whole = self.get_position_encodings(selection.grid if selection else side, image.device)
        positions = whole.select(selection.indices) if selection else whole
        return decode_masks(
            self.mask_decoder, image, positions.decoder, sparse, features[:2], refined
        )

    def project_pointers(self, tokens: Tensor, scores: Tensor) -> Tensor:
        """(B, C) mask tokens to object pointers; the one for "no object" where the presence score is not above 0."""
        return torch.where(
            scores[:, None] > 0, self.object_pointer_proj(tokens), self.no_object_pointer
        )

    def encode_memory(self, coarse: Tensor, masks: Tensor, absent: Tensor) -> Tensor:
        """(1, C, g, g) features and (B, S, S) masks in 0..1 to (B, N, 64) memories; `absent` (B,) is true for no object."""
        encoder = self.memory_encoder
        seen = encoder.mask_downsampler(masks[:, None] * MEMORY_MASK_SCALE + MEMORY_MASK_BIAS)
        x = encoder.projection(encoder.memory_fuser(encoder.feature_projection(coarse) + seen))
        x = x.flatten(2).transpose(1, 2)
        if not self.configuration.occlusion:
            return x
        return x + absent[:, None, None] * self.occlusion_spatial_embedding_parameter

    def get_position_encodings(self, side: int, device: torch.device) -> PositionEncodings:
        """The constants of a grid of `side` × `side` tokens."""
        found = self._positions.get((side, device))
        if found is None:
            with (
                torch.inference_mode(False),
                torch.no_grad(),
                use_float32(device),
            ):  # for training too, which takes no inference tensors
                found = self._compute_position_encodings(side, device)
            self._positions[side, device] = found
        return found

    def _refine_masks(self, dense: Tensor | None, features: Tensor, masks: Tensor) -> Tensor:
        shown = (
            prompt_tokens.make_empty_logits(masks.shape[-1]).to(masks) if dense is None else dense
        )
        return self.refinement(features, masks, shown.expand(len(masks), -1, -1))

    def _compute_position_encodings(self, side: int, device: torch.device) -> PositionEncodings:
        hidden = self.configuration.hidden
        return PositionEncodings(
            image=make_sine_grid(side, hidden).to(device),
            rotation=make_rotations(side, hidden).to(device),
            memory=make_sine_grid(side, MEMORY_CHANNELS).to(device),
            decoder=self.shared_image_embedding(make_cell_centres(side).to(device)).permute(
                2, 0, 1
            )[None],
        )

    def _make_memory_tokens(
        self, memory: MemoryInputs, positions: PositionEncodings
    ) -> MemoryTokens:
        slots = self.configuration.slots
        if memory.slots.numel() and int(memory.slots.max()) >= slots:
            raise ModelError(
                f"a memory is shown in temporal slot {int(memory.slots.max())}: the network "
                f"has 0 to {slots - 1}"
            )
        when = self.memory_temporal_positional_encoding[
            memory.slots - 1, 0
        ]  # slot 0 is the last row
        split = memory.pointers.unflatten(-1, (-1, MEMORY_CHANNELS)).flatten(
            1, 2
        )  # a pointer of C is C / 64 tokens
        values = torch.cat([memory.features.flatten(1, 2), split], dim=1)
        where = (
            positions.memory
            if memory.token_indices is None
            else positions.memory[memory.token_indices]
        )
        places = torch.cat([(where + when).flatten(1, 2), self._encode_pointer_ages(memory)], dim=1)
        turned = (
            positions.rotation
            if memory.token_indices is None
            else positions.rotation[memory.token_indices.flatten(1)]
        )
        return MemoryTokens(values, places, split.shape[1], turned)

    def _encode_pointer_ages(self, memory: MemoryInputs) -> Tensor:
        parts = self.configuration.hidden // MEMORY_CHANNELS
        if not self.configuration.pointer_time:
            return memory.pointers.new_zeros(
                len(memory.ages), memory.ages.shape[1] * parts, MEMORY_CHANNELS
            )
        sines = encode_ages(memory.ages, self.configuration.hidden)
        return self.temporal_positional_encoding_projection_layer(sines).repeat_interleave(
            parts, dim=1
        )


def _make_transformers_config(configuration: Configuration) -> Sam2VideoConfig:
    hidden = configuration.hidden
    decoder = Sam2VideoMaskDecoderConfig(
        hidden_size=hidden,
        mlp_dim=configuration.decoder_feed_forward,
        iou_head_hidden_dim=configuration.iou_hidden,
    )
    config = Sam2VideoConfig(
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(hidden_size=hidden),
        mask_decoder_config=decoder,
        memory_attention_hidden_size=hidden,
        memory_attention_num_layers=configuration.memory_layers,
        memory_attention_feed_forward_hidden_size=configuration.feed_forward,
        memory_encoder_hidden_size=hidden,
        memory_encoder_output_channels=MEMORY_CHANNELS,
        mask_downsampler_embed_dim=hidden,
        memory_fuser_embed_dim=hidden,
        memory_fuser_intermediate_dim=configuration.fuser,
    )
    config.mask_decoder_config._attn_implementation = "sdpa"  # Sam2VideoConfig sets it back
    return config
