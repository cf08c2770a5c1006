"""The detector of a model: its file, its hash, and what a model without one gets."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_sam2.core.errors import CheckpointError, DeviceError, FileError
from napari_sam2.core.inference_options import InferenceOptions
from napari_sam2.models.load import load_detector, load_model, reconfigure
from napari_sam2.models.network.object_maps import ObjectMapPredictor
from napari_sam2.models.precision import list_precisions
from napari_sam2.models.weights import cards, files
from napari_sam2.testing.toy import ToyModel

CHECKPOINTS = files.get_embedded_folder()


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the embedded model and its detector, under another name."""
    for path in CHECKPOINTS.glob("nano*.*"):
        shutil.copy(path, tmp_path / path.name.replace("nano", "mine"))
    return tmp_path / "mine.safetensors"


def change_detector(checkpoint: Path) -> Path:
    """Other weights for the detector of a checkpoint, written as the script in make does."""
    path = checkpoint.with_name("mine-detector.safetensors")
    weights = load_file(path)
    weights["head.bias"] += 0.5
    other = checkpoint.with_name("other.safetensors")
    save_file(weights, other)
    spec = importlib.util.spec_from_file_location(
        "make_detector", CHECKPOINTS / "make" / "detector.py"
    )
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.main([str(other), "--model", str(checkpoint)]) == 0
    return path


def test_the_embedded_detector_is_the_one_its_card_names() -> None:
    card = cards.load_card("nano")
    assert card.has_detector and load_detector().sha256 == card.detector_sha256
    shipped = sum(path.stat().st_size for path in CHECKPOINTS.glob("nano*.safetensors"))
    assert shipped <= 30e6


def test_a_detector_is_no_model_of_its_own() -> None:
    assert [name for name in cards.find_models() if "detector" in name] == []


def test_maps_are_of_the_size_of_the_planes_and_in_range() -> None:
    planes = np.random.default_rng(0).random((3, 45, 70), np.float32)
    maps = load_detector().predict(planes)
    assert maps.shape == (3, 4, 45, 70) and maps.dtype == np.float32
    assert maps.min() >= 0 and maps.max() <= 1
    np.testing.assert_allclose(load_detector().predict(planes[1:2])[0], maps[1], atol=1e-4)


def test_a_model_without_a_detector_gets_the_embedded_one() -> None:
    embedded = load_detector()
    assert load_detector(ToyModel()).sha256 == embedded.sha256
    assert load_detector("sam2.1-tiny").sha256 == embedded.sha256
    assert load_detector(load_model("nano", device="cpu")) is load_detector("nano")


def test_a_model_with_a_detector_of_its_own_gets_that(copied: Path) -> None:
    change_detector(copied)
    card = cards.load_card(copied)
    assert card.sha256 == cards.load_card("nano").sha256  # the model itself is the same
    own = load_detector(copied)
    assert own.sha256 == card.detector_sha256 != load_detector().sha256
    assert load_detector(load_model(copied, device="cpu")).sha256 == own.sha256


def test_a_detector_that_lies_elsewhere_is_found_by_its_hash(copied: Path) -> None:
    copied.with_name("mine-detector.safetensors").unlink()
    assert load_detector(copied).sha256 == load_detector().sha256


def test_a_missing_detector_is_said(copied: Path) -> None:
    change_detector(copied).unlink()
    with pytest.raises(FileError, match=r"mine-detector\.safetensors: not on this machine"):
        load_detector(copied)


def test_a_changed_detector_is_refused(copied: Path) -> None:
    path = copied.with_name("mine-detector.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="changed or damaged"):
        load_detector(copied)


def test_weights_of_something_else_are_refused(copied: Path) -> None:
    path = copied.with_name("mine-detector.safetensors")
    save_file({"w": torch.zeros(3)}, path)
    card = json.loads(copied.with_suffix(".json").read_text())
    card["detector_sha256"] = files.compute_sha256(path)
    copied.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="not the weights of a detector"):
        load_detector(copied)


def test_a_card_of_before_has_no_detector(copied: Path) -> None:
    card = json.loads(copied.with_suffix(".json").read_text())
    del card["detector_sha256"]
    copied.with_suffix(".json").write_text(json.dumps(card))
    assert not cards.load_card(copied).has_detector
    assert load_detector(copied).sha256 == load_detector().sha256


def test_precision_and_device_are_those_of_the_model() -> None:
    if "bfloat16" not in list_precisions("cpu"):
        with pytest.raises(DeviceError):
            load_detector(options=InferenceOptions(device="cpu", precision="bfloat16"))
        return
    model = reconfigure(load_model("nano", device="cpu"), precision="bfloat16")
    fast = load_detector(model)
    assert isinstance(fast, ObjectMapPredictor) and fast.precision == "bfloat16"
    plane = np.random.default_rng(0).random((1, 64, 64), np.float32)
    difference = np.abs(fast.predict(plane) - load_detector().predict(plane))
    assert difference.mean() < 0.02
