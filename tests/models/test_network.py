"""The network: the effect of memories, slots, ages and sizes, and its gradients."""

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
def network() -> Sam2Network:
    return make_network()


def _make_memories(
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


def _make_features() -> Tensor:
    return torch.randn(1, SMALL.hidden, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "other",
    [
        _make_memories(slots=[0, 2]),
        _make_memories(age=0.4),
        _make_memories(age=-0.2),
        _make_memories(pointers=0),
        _make_memories(memories=1),
        _make_memories(memories=0),
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
def test_memory_changes_the_features(network: Sam2Network, other: MemoryInputs) -> None:
    with torch.inference_mode():
        before, after = (
            network.condition_on_memory(_make_features(), _make_memories()),
            network.condition_on_memory(_make_features(), other),
        )
    assert before.shape == after.shape == (1, SMALL.hidden, SIDE, SIDE)
    assert (before - after).abs().max() > 1e-3


def test_the_order_of_memories_does_not_matter(network: Sam2Network) -> None:
    memories = _make_memories(memories=3)
    turned = MemoryInputs(
        memories.features.flip(1), memories.slots.flip(1), memories.pointers, memories.ages
    )
    with torch.inference_mode():
        torch.testing.assert_close(
            network.condition_on_memory(_make_features(), turned),
            network.condition_on_memory(_make_features(), memories),
            atol=1e-5,
            rtol=0,
        )


def test_an_untrained_slot_is_refused(network: Sam2Network) -> None:
    with pytest.raises(ModelError, match="slot 7: the network has 0 to 6"):
        network.condition_on_memory(_make_features(), _make_memories(slots=[0, 7]))


def test_rotation_depends_on_distance_alone() -> None:
    turn, (one, other) = (
        make_rotations(8, 32),
        torch.randn(2, 32, generator=torch.Generator().manual_seed(0)),
    )
    turned = [rotate(vector.expand(64, 1, 32), turn)[:, 0] for vector in (one, other)]
    products = [
        float(turned[0][position] @ turned[1][position + 9]) for position in (0, 1, 20, 50)
    ]  # one row down, one column right
    assert products == pytest.approx([products[0]] * 4, abs=1e-4)


@pytest.mark.parametrize("side", [64, 96, 160])
def test_any_side_that_is_a_multiple_of_32(network: Sam2Network, side: int) -> None:
    with torch.inference_mode():
        features = network.embed(torch.rand(1, 1, side, side))
        decoded = network.decode(
            features,
            network.add_no_memory_embedding(features[2]),
            torch.tensor([[[0.5, 0.5]]]),
            torch.tensor([[1]]),
        )
    assert [tuple(level.shape[1:]) for level in features] == [
        (16, side // 4, side // 4),
        (32, side // 8, side // 8),
        (128, side // 16, side // 16),
    ]
    assert decoded.masks.shape == (1, 4, side // 4, side // 4)


def test_gradients_reach_every_part_of_the_memory_path(network: Sam2Network) -> None:
    """Also after inference cached the position encodings."""
    with torch.inference_mode():
        network.condition_on_memory(_make_features(), _make_memories())
    memory = network.encode_memory(
        _make_features(), torch.rand(2, SIDE * 16, SIDE * 16), torch.tensor([False, True])
    )
    memories = _make_memories(tracks=2, memories=1)
    network.condition_on_memory(
        _make_features(),
        MemoryInputs(memory[:, None], memories.slots, memories.pointers, memories.ages),
    ).square().sum().backward()
    for part in (
        network.memory_encoder,
        network.memory_attention.layers[0],
        network.temporal_positional_encoding_projection_layer,
    ):
        assert all(
            parameter.grad is not None and parameter.grad.abs().sum() > 0
            for parameter in part.parameters()
            if parameter.numel() > 64
        )
    network.zero_grad()
