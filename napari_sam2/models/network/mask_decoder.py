"""Decoding of features and prompts to masks, and the choice of one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoMaskDecoder

from napari_sam2.core.sam2_constants import STABILITY_MARGIN, STABILITY_THRESHOLD


@dataclass(frozen=True, eq=False)
class DecoderOutput:
    """The masks of B tracks: the single mask first, then three alternatives.

    Parameters
    ----------
    masks
        (B, 4, h, w) logits.
    ious
        (B, 4) predicted IoUs in 0..1.
    tokens
        (B, 4, C) mask tokens.
    scores
        (B,) presence logits.
    """

    masks: Tensor
    ious: Tensor
    tokens: Tensor
    scores: Tensor


@dataclass(frozen=True, eq=False)
class SelectedMask:
    """One mask of each track.

    Parameters
    ----------
    logits
        (B, h, w).
    ious
        (B,) predicted IoUs in 0..1.
    tokens
        (B, C) tokens that object pointers are projected from.
    """

    logits: Tensor
    ious: Tensor
    tokens: Tensor


def decode_masks(
    decoder: Sam2VideoMaskDecoder,
    image: Tensor,
    positions: Tensor,
    sparse_prompts: Tensor,
    high_res_features: tuple[Tensor, Tensor],
    refine: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> DecoderOutput:
    """Run the mask decoder.

    Parameters
    ----------
    image
        (B, C, g, g) features with the dense prompt added.
    positions
        (1 or B, C, g, g) position encodings.
    sparse_prompts
        (B, P, C) prompt tokens.
    high_res_features
        Features at strides 4 and 8, projected: (1 or B, C / 8, 4g, 4g) and (1 or B, C / 4, 2g, 2g).
    refine
        From (B, C / 8, 4g, 4g) features and (B, 4, 4g, 4g) logits to the logits to add.
    """
    output_tokens = torch.cat(
        [decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight]
    )
    queries = torch.cat([output_tokens.expand(len(sparse_prompts), -1, -1), sparse_prompts], dim=1)[
        :, None
    ]
    queries, keys = decoder.transformer(
        point_embeddings=queries,
        image_embeddings=image,
        image_positional_embeddings=positions,
        attention_similarity=None,
    )
    queries, keys = queries[:, 0], keys[:, 0].transpose(1, 2).unflatten(2, image.shape[-2:])
    mask_tokens = queries[:, 2 : 2 + decoder.num_mask_tokens]
    x = decoder.activation(
        decoder.upscale_layer_norm(decoder.upscale_conv1(keys) + high_res_features[1])
    )
    x = decoder.activation(decoder.upscale_conv2(x) + high_res_features[0])
    weights = torch.stack(
        [mlp(mask_tokens[:, index]) for index, mlp in enumerate(decoder.output_hypernetworks_mlps)],
        dim=1,
    )
    masks = (weights @ x.flatten(2)).unflatten(2, x.shape[-2:])
    if refine:
        masks = masks + refine(x, masks)
    ious, scores = (
        decoder.iou_prediction_head(queries[:, 1]),
        decoder.pred_obj_score_head(queries[:, 0])[:, 0],
    )
    return DecoderOutput(masks.float(), ious.float(), mask_tokens.float(), scores.float())


def average_outputs(one: DecoderOutput, other: DecoderOutput) -> DecoderOutput:
    """The mean of two outputs for the same objects, with the tokens of the first."""
    pairs = ((one.masks, other.masks), (one.ious, other.ious), (one.scores, other.scores))
    masks, ious, scores = ((first + second) / 2 for first, second in pairs)
    return DecoderOutput(masks, ious, one.tokens, scores)


def select_best_mask(output: DecoderOutput) -> SelectedMask:
    """The alternative with the highest predicted IoU."""
    index = 1 + output.ious[:, 1:].argmax(dim=1)
    row = torch.arange(len(index), device=index.device)
    return SelectedMask(
        output.masks[row, index], output.ious[row, index], output.tokens[row, index]
    )


def select_single_mask(output: DecoderOutput) -> SelectedMask:
    """The single mask, or the best alternative if the single mask is not stable.

    The token is always that of the single mask.
    """
    mask = output.masks[:, 0].flatten(1)
    inner = (mask > STABILITY_MARGIN).sum(dim=1).float()
    outer = (mask > -STABILITY_MARGIN).sum(dim=1).float()
    stable = torch.where(outer > 0, inner / outer, torch.ones_like(outer)) >= STABILITY_THRESHOLD
    other = select_best_mask(output)
    logits = torch.where(stable[:, None, None], output.masks[:, 0], other.logits)
    return SelectedMask(
        logits, torch.where(stable, output.ious[:, 0], other.ious), output.tokens[:, 0]
    )
