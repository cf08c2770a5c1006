"""Precisions: nearly the same masks, outputs in float32, and errors if not available."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import DeviceError, ModelError
from napari_sam2.core.prompt import FramePrompts
from napari_sam2.core.result import Memory, MemoryReference, Query, Segment
from napari_sam2.core.stack import Frame
from napari_sam2.models.gpu_memory import BatchLimitedModel
from napari_sam2.models.load import list_model_precisions, load_model, reconfigure
from napari_sam2.models.object_crops import ObjectCropModel
from napari_sam2.models.precision import check_precision, list_precisions
from napari_sam2.models.predictor import Sam2Predictor
from napari_sam2.propagation.embedding_disk_cache import EmbeddingDiskCache
from napari_sam2.propagation.session import Session
from napari_sam2.testing.scenes import make_drifting_scene
from napari_sam2.testing.toy import ToyModel
from tests.models import networks

CLICK = FramePrompts(points=((30.0, 30.0),), positive=(True,))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Make PyTorch report instructions of the processor, and generations of the other devices."""

    def set_capabilities(*instructions: str, generation: int = 0, macos: int = 0) -> None:
        monkeypatch.setattr(
            torch.cpu, "get_capabilities", lambda: dict.fromkeys(instructions, True)
        )
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (generation, 0))
        monkeypatch.setattr(
            torch.backends.mps, "is_macos_or_newer", lambda major, _: macos >= major
        )

    return set_capabilities


@pytest.mark.parametrize(
    ("device", "capabilities", "available"),
    [
        pytest.param("cpu", {}, [], id="old_processor"),
        pytest.param(
            "cpu", {"instructions": ["avx512_f"]}, [], id="processor_that_would_emulate_it"
        ),
        pytest.param(
            "cpu", {"instructions": ["avx512_bf16"]}, ["bfloat16"], id="processor_with_bfloat16"
        ),
        pytest.param(
            "cpu",
            {"instructions": ["amx_bf16", "avx512_fp16"]},
            ["bfloat16", "float16"],
            id="processor_with_both",
        ),
        pytest.param("cuda", {"generation": 7}, ["float16"], id="turing"),
        pytest.param("cuda:1", {"generation": 8}, ["bfloat16", "float16"], id="ampere"),
        pytest.param("mps", {"macos": 13}, ["float16"], id="apple_before_macos_14"),
        pytest.param("mps", {"macos": 15}, ["bfloat16", "float16"], id="apple"),
    ],
)
def test_precisions_of_a_device(machine, device, capabilities, available):
    machine(*capabilities.pop("instructions", []), **capabilities)
    assert list_precisions(device) == ["float32", *available]


@pytest.mark.parametrize(
    ("precision", "error", "message"),
    [
        pytest.param("half", ModelError, "'half': expected one of", id="unknown_word"),
        pytest.param(
            "float16",
            DeviceError,
            "'float16': device 'cpu' computes in float32, bfloat16; choose",
            id="not_on_this_device",
        ),
    ],
)
def test_a_missing_precision_is_refused(machine, precision, error, message):
    machine("avx512_bf16")
    with pytest.raises(error, match=message):
        check_precision(precision, "cpu")
    with pytest.raises(error, match=message):
        load_model("nano", device="cpu", precision=precision)


def test_a_processor_without_reported_capabilities_has_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert list_precisions("cpu") == ["float32"]


@pytest.fixture(scope="module", params=[networks.SMALL, networks.SMALL_CONV], ids=["hiera", "conv"])
def both(request: pytest.FixtureRequest) -> tuple[Sam2Predictor, Sam2Predictor]:
    """The same weights in float32 and in bfloat16."""
    exact = networks.make_model(request.param)
    return exact, Sam2Predictor(exact.network, replace(exact.card, precision="bfloat16"))


def _propagate(model: Sam2Predictor) -> list[Segment]:
    """The answers to a click and on the next frame."""
    frames = [
        Frame(
            index, make_drifting_scene(count=1, frames=2).stack.data[index].astype(np.float32) / 255
        )
        for index in range(2)
    ]
    first, second = model.embed(
        [(frame, model.card.make_frame_window(frame.shape)) for frame in frames]
    )
    (clicked,) = model.segment(first, [Query(1, CLICK)])
    (features,) = model.encode_memory(first, [clicked])
    memory = Memory(0, True, clicked.pointer, clicked.present, clicked.iou, features)
    return [
        clicked,
        *model.segment(
            second, [Query(1, memory_references=(MemoryReference(memory, slot=0, age=1),))]
        ),
    ]


DECIDED = 0.25
"""Cells count as decided if their logit is this many standard deviations from 0.

Two thirds of a random network's logits lie near 0, and which side they are rounded to depends on
the processor. A trained network decides nearly all cells.
"""


def test_bfloat16_changes_logits_little_and_no_decided_cell(
    both: tuple[Sam2Predictor, Sam2Predictor],
) -> None:
    for exact, rough in zip(*map(_propagate, both), strict=True):
        assert rough.logits.dtype == rough.pointer.dtype == np.float32
        error, spread = np.abs(rough.logits - exact.logits), exact.logits.std()
        assert 0 < error.max() < 0.1 * np.abs(exact.logits).max()
        assert np.sqrt(np.mean(error**2)) < 0.15 * spread
        decided = np.abs(exact.logits) > DECIDED * spread
        assert decided.mean() > 0.3
        assert ((rough.logits > 0) == (exact.logits > 0))[decided].mean() > 0.99
        assert rough.iou == pytest.approx(exact.iou, abs=0.05)


def test_the_embedded_model_segments_the_same_discs() -> None:
    scene, exact = (
        make_drifting_scene(count=2, frames=3, shape=(96, 96)),
        load_model("nano", device="cpu"),
    )
    assert isinstance(exact, ObjectCropModel)
    found = []
    for precision in ("float32", "bfloat16"):
        model = ObjectCropModel(exact.network, replace(exact.card, precision=precision))
        with Session(scene.stack.as_video("t"), model) as session:
            session.prompt_many([scene.make_click(track) for track in scene.tracks])
            session.run().finish()
            found.append(np.stack([session.compute_label_plane(frame) for frame in range(3)]))
    for track in scene.tracks:
        one, other = (labels == track for labels in found)
        assert one.any() and (one & other).sum() > 0.95 * (one | other).sum()


def test_position_encodings_are_never_rounded(both: tuple[Sam2Predictor, Sam2Predictor]) -> None:
    """They are cached for later calls in any precision."""
    exact, rough = both
    _propagate(exact)
    kept = dict(exact.network.positions)
    exact.network.positions.clear()
    _propagate(rough)
    for key, positions in exact.network.positions.items():
        for name in ("image", "rotation", "memory", "decoder"):
            torch.testing.assert_close(
                getattr(positions, name), getattr(kept[key], name), rtol=0, atol=0
            )


def test_features_on_disk_belong_to_one_precision(
    both: tuple[Sam2Predictor, Sam2Predictor], tmp_path: Path
) -> None:
    video = make_drifting_scene(frames=2).stack.as_video("t")
    exact, rough = (EmbeddingDiskCache(tmp_path, video, model.card, 2**20) for model in both)
    exact.put("0", [np.zeros(3, dtype=np.float32)])
    assert exact.get("0") is not None and rough.get("0") is None


def test_a_plugin_refuses_a_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_sam2.models import load

    class PluginModel:
        state = "plug-in"
        card = ModelCard("theirs")

    monkeypatch.setattr(load, "locate", lambda _: PluginModel())
    monkeypatch.setattr(load, "check_precision", lambda *_: None)
    with pytest.raises(ModelError, match=r"'bfloat16': theirs is a plug-in"):
        load_model("theirs", device="cpu", precision="bfloat16")


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(networks.make_model, id="whole_frames"),
        pytest.param(
            lambda: reconfigure(networks.make_model(), "local", "tiles"), id="local_tiles"
        ),
        pytest.param(lambda: load_model("nano", device="cpu"), id="object_crops"),
        pytest.param(
            lambda: BatchLimitedModel(load_model("nano", device="cpu")), id="batch_limited"
        ),
    ],
)
def test_a_model_changes_its_precision_and_back(machine, model):
    """The weights are shared and nothing else changes, also without a choice of attention."""
    machine("avx512_bf16")
    exact = model()
    rough = reconfigure(exact, precision="bfloat16")
    assert rough.card == replace(exact.card, precision="bfloat16") and type(rough) is type(exact)
    assert _get_network(rough) is _get_network(exact) and exact.card.precision == "float32"
    assert reconfigure(rough, precision="float32").card == exact.card
    assert reconfigure(rough, "global", "whole").card.precision == "bfloat16", (
        "options that are not given stay"
    )
    assert reconfigure(rough) is reconfigure(rough, precision="bfloat16") is rough
    assert list_model_precisions(rough) == ("float32", "bfloat16")
    with pytest.raises(
        DeviceError,
        match="'float16': device 'cpu' computes in float32, bfloat16; choose one of these",
    ):
        reconfigure(exact, precision="float16")
    with pytest.raises(ModelError, match="'half': expected one of"):
        reconfigure(exact, precision="half")


def _get_network(model):
    return _get_network(model.inner) if hasattr(model, "inner") else model.network


def test_a_model_that_cannot_change_is_refused(machine):
    machine("avx512_bf16")
    with pytest.raises(
        ModelError,
        match=(
            "^toy has precision 'float32' and cannot change it: load it with precision 'bfloat16'$"
        ),
    ):
        reconfigure(ToyModel(), precision="bfloat16")
    assert list_model_precisions(ToyModel()) == ("float32",)


def test_a_changed_model_computes_in_its_precision(
    both: tuple[Sam2Predictor, Sam2Predictor], machine
) -> None:
    machine("avx512_bf16")
    exact, rough = both
    for found, expected in zip(
        _propagate(reconfigure(exact, precision="bfloat16")), _propagate(rough), strict=True
    ):
        np.testing.assert_array_equal(found.logits, expected.logits)
