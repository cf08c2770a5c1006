"""Devices: the requested one or an error; "auto" chooses the best."""

import pytest
import torch

from napari_sam2.core.errors import DeviceError
from napari_sam2.models import device


@pytest.fixture
def machine(monkeypatch):
    """Make PyTorch report `cuda` CUDA devices, and Apple's GPU if `mps`."""

    def set_devices(*, cuda: int = 0, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return set_devices


@pytest.mark.parametrize(
    ("cuda", "mps", "requested", "chosen"),
    [
        pytest.param(2, False, "auto", "cuda", id="auto_chooses_cuda"),
        pytest.param(0, True, "auto", "mps", id="auto_chooses_apple_without_cuda"),
        pytest.param(0, False, "auto", "cpu", id="auto_chooses_the_processor_last"),
        pytest.param(2, False, "cuda:1", "cuda:1", id="second_gpu"),
        pytest.param(1, False, "cpu", "cpu", id="processor_beside_a_gpu"),
    ],
)
def test_available_device_is_chosen(machine, cuda, mps, requested, chosen):
    machine(cuda=cuda, mps=mps)
    assert device.choose_device(requested) == chosen


@pytest.mark.parametrize(
    ("cuda", "requested", "message"),
    [
        pytest.param(0, "cuda", "this machine has cpu", id="no_gpu"),
        pytest.param(1, "cuda:1", "this machine has cuda, cuda:0, cpu", id="no_second_gpu"),
        pytest.param(1, "mps", "this machine has cuda, cuda:0, cpu", id="no_apple"),
        pytest.param(
            0, "gpu", "expected auto or one of this machine's devices: cpu", id="unknown_word"
        ),
        pytest.param(1, "cuda:first", "expected auto", id="not_a_number"),
        pytest.param(0, "", "expected auto", id="empty"),
    ],
)
def test_missing_device_is_refused_with_the_available_ones(machine, cuda, requested, message):
    machine(cuda=cuda)
    with pytest.raises(DeviceError, match=message) as error:
        device.choose_device(requested)
    assert repr(requested) in str(error.value)


def test_error_explains_a_build_without_cuda(machine, monkeypatch):
    machine()
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(DeviceError, match="was built without CUDA"):
        device.choose_device("cuda")


@pytest.mark.parametrize("name", ["cpu", "mps"])
def test_device_is_described_in_one_line(name):
    assert name in device.describe_device(name)
    assert "\n" not in device.describe_device(name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_gpu_is_described_by_its_name_and_memory():
    assert torch.cuda.get_device_name(0) in device.describe_device("cuda")
    assert "GiB" in device.describe_device("cuda:0")
