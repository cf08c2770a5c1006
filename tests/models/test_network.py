"""The network in tensors: what memory, slots, ages and sizes change, and that it can be trained."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from napari_sam2.core.errors import ModelError
from napari_sam2.models.network.position_encodings import make_rotations, rotate
from napari_sam2.models.network.sam2_network import MemoryInputs, Sam2Network
from tests.models.networks import SMALL, make_network

SIDE = 4


@pytest.fixture(scope="module")
def made() -> Sam2Network:
    return make_network()


def _recalled(
    tracks: int = 1,
    memories: int = 2,
    pointers: int = 1,
    *,
    slots: list[int] | None = None,
    age: float = 0.2,
) -> MemoryInputs:
    generator = torch.Generator().manual_seed(0)
    return MemoryInputs(
        torch.randn(tracks, memories, SIDE**2, 64, generator=generator),
        torch.tensor([slots or list(range(memories))], dtype=torch.long).expand(tracks, -1),
        torch.randn(tracks, pointers, SMALL.hidden, generator=generator),
        torch.full((tracks, pointers), age),
    )


def _coarse() -> Tensor:
    return torch.randn(1, SMALL.hidden, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "other",
    [
        _recalled(slots=[0, 2]),
        _recalled(age=0.4),
        _recalled(age=-0.2),
        _recalled(pointers=0),
        _recalled(memories=1),
        _recalled(memories=0),
    ],
    ids=[
        "another slot",
        "another age",
        "an age ahead",
        "no pointer",
        "one memory less",
        "pointers alone",
    ],
)
def test_what_is_recalled_changes_what_is_seen(made: Sam2Network, other: MemoryInputs) -> None:
    with torch.inference_mode():
        before, after = (
            made.condition_on_memory(_coarse(), _recalled()),
            made.condition_on_memory(_coarse(), other),
        )
    assert before.shape == after.shape == (1, SMALL.hidden, SIDE, SIDE)
    assert (before - after).abs().max() > 1e-3


def test_the_order_of_memories_is_of_no_account(made: Sam2Network) -> None:
    recalled = _recalled(memories=3)
    turned = MemoryInputs(
        recalled.features.flip(1), recalled.slots.flip(1), recalled.pointers, recalled.ages
    )
    with torch.inference_mode():
        torch.testing.assert_close(
            made.condition_on_memory(_coarse(), turned),
            made.condition_on_memory(_coarse(), recalled),
            atol=1e-5,
            rtol=0,
        )


def test_a_slot_that_was_never_trained_is_refused(made: Sam2Network) -> None:
    with pytest.raises(ModelError, match="slot 7: the network has 0 to 6"):
        made.condition_on_memory(_coarse(), _recalled(slots=[0, 7]))


def test_rotation_depends_on_distance_alone() -> None:
    turn, (one, other) = (
        make_rotations(8, 32),
        torch.randn(2, 32, generator=torch.Generator().manual_seed(0)),
    )
    turned = [rotate(vector.expand(64, 1, 32), turn)[:, 0] for vector in (one, other)]
    near = [
        float(turned[0][place] @ turned[1][place + 9]) for place in (0, 1, 20, 50)
    ]  # one row down, one column right
    assert near == pytest.approx([near[0]] * 4, abs=1e-4)


@pytest.mark.parametrize("side", [64, 96, 160])
def test_any_side_that_is_a_multiple_of_32(made: Sam2Network, side: int) -> None:
    with torch.inference_mode():
        features = made.embed(torch.rand(1, 1, side, side))
        decoded = made.decode(
            features,
            made.add_no_memory_embedding(features[2]),
            torch.tensor([[[0.5, 0.5]]]),
            torch.tensor([[1]]),
        )
    assert [tuple(level.shape[1:]) for level in features] == [
        (16, side // 4, side // 4),
        (32, side // 8, side // 8),
        (128, side // 16, side // 16),
    ]
    assert decoded.masks.shape == (1, 4, side // 4, side // 4)


def test_gradients_reach_every_part_of_the_memory_path(made: Sam2Network) -> None:
    """Also after positions were computed for inference: they are constants of both."""
    with torch.inference_mode():
        made.condition_on_memory(_coarse(), _recalled())
    memory = made.encode_memory(
        _coarse(), torch.rand(2, SIDE * 16, SIDE * 16), torch.tensor([False, True])
    )
    recalled = _recalled(tracks=2, memories=1)
    made.condition_on_memory(
        _coarse(), MemoryInputs(memory[:, None], recalled.slots, recalled.pointers, recalled.ages)
    ).square().sum().backward()
    for part in (
        made.memory_encoder,
        made.memory_attention.layers[0],
        made.temporal_positional_encoding_projection_layer,
    ):
        assert all(
            parameter.grad is not None and parameter.grad.abs().sum() > 0
            for parameter in part.parameters()
            if parameter.numel() > 64
        )
    made.zero_grad()
