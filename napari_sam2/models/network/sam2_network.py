"""SAM 2 as a trainable network: tensors only, batched over tracks, of any input size."""

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
from napari_sam2.models.weights.cards import KnownModel
from napari_sam2.models.weights.key_mapping import check_keys

STRIDE = 16
"""Input pixels per token of the coarsest features, which memories have too."""

MASK_STRIDE = 4
"""Input pixels per cell of a mask."""

Features = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class PositionEncodings:
    """The position encodings of a grid of g × g tokens.

    Parameters
    ----------
    image
        (g * g, C) of the frame's tokens.
    rotation
        (g * g, C / 2) rotary encoding of the frame's tokens.
    memory
        (g * g, 64) of memory tokens.
    decoder
        (1, C, g, g) of the mask decoder.
    """

    image: Tensor
    rotation: Tensor
    memory: Tensor
    decoder: Tensor

    def select(self, indices: Tensor) -> PositionEncodings:
        """Those of B squares of N tokens: (B, N) indices on the grid, row by row."""
        side = math.isqrt(indices.shape[1])
        decoder = self.decoder[0].flatten(1)[:, indices].transpose(0, 1).unflatten(2, (side, side))
        return PositionEncodings(
            self.image[indices], self.rotation[indices], self.memory[indices], decoder
        )


@dataclass(frozen=True, eq=False)
class TokenSelection:
    """The tokens that B tracks read: (B, N) `indices` on a grid of `grid` × `grid`, row by row."""

    indices: Tensor
    grid: int


@dataclass(frozen=True, eq=False)
class MemoryInputs:
    """The n memories and p object pointers of each of B tracks.

    Parameters
    ----------
    features
        (B, n, N, 64) memory tokens.
    slots
        (B, n) temporal slots, 0 for conditioning frames.
    pointers
        (B, p, C).
    ages
        (B, p), as a part of the largest possible age.
    token_indices
        (B, n, N) of the memory tokens on the grid, row by row; None if they are the whole grid.
    """

    features: Tensor
    slots: Tensor
    pointers: Tensor
    ages: Tensor
    token_indices: Tensor | None = None


class Sam2Network(nn.Module):
    """SAM 2, or a small network with the same heads.

    Its weights have the names of transformers' Sam2VideoModel.
    """

    def __init__(self, configuration: Configuration) -> None:
        super().__init__()
        self.configuration = configuration
        self.source: KnownModel | None = None  # where the weights came from
        self.positions: dict[tuple[int, torch.device], PositionEncodings] = {}
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
        # Every checkpoint has it, but nothing reads it.
        self.no_memory_positional_encoding = nn.Parameter(torch.zeros(1, 1, hidden))
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
        """The network with these weights, in float32, in evaluation mode.

        Raises CheckpointError if the weights do not fit.
        """
        with torch.device("meta"):
            network = cls(configuration)
        check_keys(state, network.state_dict())
        network.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
        return network.eval()

    def embed(self, pixels: Tensor) -> Features:
        """Features of (B, 1, S, S) grey values in 0..1.

        Returns
        -------
        Features
            (B, C / 8, S / 4, S / 4), (B, C / 4, S / 8, S / 8) and (B, C, S / 16, S / 16).
        """
        fine, middle, coarse = self.vision_encoder(pixels)
        return self.mask_decoder.conv_s0(fine), self.mask_decoder.conv_s1(middle), coarse

    def add_no_memory_embedding(self, coarse: Tensor) -> Tensor:
        """(1 or B, C, g, g) features of a frame that is segmented without memory."""
        return coarse + self.no_memory_embedding[0, 0, :, None, None]

    def condition_on_memory(
        self, coarse: Tensor, memory: MemoryInputs, selection: TokenSelection | None = None
    ) -> Tensor:
        """(B, C, g, g) features of a frame, conditioned on the memories of B tracks.

        Parameters
        ----------
        coarse
            (1 or B, C, g, g) features at stride 16.
        selection
            The tokens in `coarse` if they are not the whole grid.
        """
        side = coarse.shape[-1]
        whole = self.get_position_encodings(selection.grid if selection else side, coarse.device)
        positions = whole.select(selection.indices) if selection else whole
        tokens = self.memory_attention(
            coarse.flatten(2).transpose(1, 2),
            positions.image,
            positions.rotation,
            self._make_memory_tokens(memory, whole),
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
        features
            Of the frame, see `embed`; batch 1 or B. The last one is not read.
        image
            (1 or B, C, g, g) that replaces the last one: with or without memory.
        points
            (B, P, 2) (x, y) in 0..1 of the whole grid, without the padding point.
        labels
            (B, P).
        logits
            (B, 4g, 4g) dense prompt, if any.
        selection
            The tokens of all these if they are not the whole grid.
        """
        side = image.shape[-1]
        # SAM 2 replaces an empty list by one padding point, and ends every list with another.
        padding = 1 if points.shape[1] else 2
        points = F.pad(points, (0, 0, 0, padding))
        labels = F.pad(labels, (0, padding), value=prompt_tokens.PADDING)
        sparse = prompt_tokens.encode_points(self.prompt_encoder, points, labels)
        image = (image + prompt_tokens.encode_mask(self.prompt_encoder, logits, side)).expand(
            len(points), -1, -1, -1
        )
        refine = partial(self._refine_masks, logits) if self.configuration.refinement else None
        whole = self.get_position_encodings(selection.grid if selection else side, image.device)
        positions = whole.select(selection.indices) if selection else whole
        return decode_masks(
            self.mask_decoder, image, positions.decoder, sparse, features[:2], refine
        )

    def project_pointers(self, tokens: Tensor, scores: Tensor) -> Tensor:
        """(B, C) object pointers of mask tokens; absent objects (score ≤ 0) share one pointer."""
        return torch.where(
            scores[:, None] > 0, self.object_pointer_proj(tokens), self.no_object_pointer
        )

    def encode_memory(self, coarse: Tensor, masks: Tensor, absent: Tensor) -> Tensor:
        """(B, N, 64) memories of B masks.

        Parameters
        ----------
        coarse
            (1 or B, C, g, g) features at stride 16.
        masks
            (B, S, S) in 0..1.
        absent
            (B,) bool.
        """
        encoder = self.memory_encoder
        downsampled = encoder.mask_downsampler(
            masks[:, None] * MEMORY_MASK_SCALE + MEMORY_MASK_BIAS
        )
        x = encoder.projection(
            encoder.memory_fuser(encoder.feature_projection(coarse) + downsampled)
        )
        x = x.flatten(2).transpose(1, 2)
        if not self.configuration.occlusion:
            return x
        return x + absent[:, None, None] * self.occlusion_spatial_embedding_parameter

    def get_position_encodings(self, side: int, device: torch.device) -> PositionEncodings:
        """The cached position encodings of a grid of `side` × `side` tokens, in float32."""
        cached = self.positions.get((side, device))
        if cached is None:
            # Not in inference mode, because training refuses inference tensors.
            with torch.inference_mode(False), torch.no_grad(), use_float32(device):
                cached = self._compute_position_encodings(side, device)
            self.positions[side, device] = cached
        return cached

    def _refine_masks(self, dense: Tensor | None, features: Tensor, masks: Tensor) -> Tensor:
        if dense is None:
            dense = prompt_tokens.make_empty_logits(masks.shape[-1]).to(masks)
        return self.refinement(features, masks, dense.expand(len(masks), -1, -1))

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
                f"a memory has the temporal slot {int(memory.slots.max())}: the network has 0 to "
                f"{slots - 1}"
            )
        # Slot 0 is the last row.
        in_time = self.memory_temporal_positional_encoding[memory.slots - 1, 0]
        in_space, rotation = positions.memory, positions.rotation
        if memory.token_indices is not None:
            in_space = in_space[memory.token_indices]
            rotation = rotation[memory.token_indices.flatten(1)]
        # A pointer of C channels is C / 64 tokens.
        pointers = memory.pointers.unflatten(-1, (-1, MEMORY_CHANNELS)).flatten(1, 2)
        values = torch.cat([memory.features.flatten(1, 2), pointers], dim=1)
        encodings = torch.cat(
            [(in_space + in_time).flatten(1, 2), self._encode_pointer_ages(memory)], dim=1
        )
        return MemoryTokens(values, encodings, pointers.shape[1], rotation)

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
    config.mask_decoder_config._attn_implementation = "sdpa"  # Sam2VideoConfig resets it
    return config
