"""Sizes that a file declares are checked before memory is taken; large files are read lazily."""

from __future__ import annotations

import gzip
import json
import re
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np
import pytest
import tifffile
import zarr

from napari_sam2.core.errors import FileError, MeasurementError, PlanError
from napari_sam2.core.stack import Video
from napari_sam2.detection.options import DetectionOptions
from napari_sam2.io.open import open_stack
from napari_sam2.io.readers import nifti as nifti_reader
from napari_sam2.io.readers import nrrd as nrrd_reader
from napari_sam2.measurement.features.options import MeasurementOptions, SpotOptions

_VOLUME = np.random.default_rng(0).integers(0, 99, (8, 7, 6)).astype(np.int16)

_DRIVE = "C:"


def _nifti_header(dimensions: list[int], offset: float = 352.0) -> bytes:
    header: Any = nibabel.Nifti1Header()  # type: ignore[no-untyped-call]
    header.set_data_dtype(np.int16)
    data = bytearray(header.binaryblock)
    struct.pack_into("<8h", data, 40, len(dimensions), *(dimensions + [1] * 7)[:7])
    struct.pack_into("<f", data, 108, offset)
    data[344:348] = b"n+1\0"
    return bytes(data) + bytes(4)


def _nifti(path: Path) -> Path:
    path = path.with_suffix(".nii")
    path.write_bytes(_nifti_header([30000, 30000, 30000]) + bytes(1000))
    return path


def _gzipped_nifti(path: Path) -> Path:
    path = path.with_suffix(".nii.gz")
    path.write_bytes(gzip.compress(_nifti_header([30000, 30000, 500]) + bytes(100_000)))
    return path


def _nifti_extension(path: Path) -> Path:
    path = path.with_suffix(".nii.gz")
    path.write_bytes(gzip.compress(_nifti_header([8, 8, 8], offset=2e9) + bytes(10_000)))
    return path


def _nrrd_text(encoding: str, sizes: str, extra: str = "") -> bytes:
    n_dimensions = len(sizes.split())
    return (
        f"NRRD0004\ntype: int16\ndimension: {n_dimensions}\nsizes: {sizes}\nendian: little\n"
        f"encoding: {encoding}\n{extra}\n"
    ).encode()


def _raw_nrrd(path: Path) -> Path:
    path = path.with_suffix(".nrrd")
    path.write_bytes(_nrrd_text("raw", "30000 30000 30000") + bytes(1000))
    return path


def _gzipped_nrrd(path: Path) -> Path:
    path = path.with_suffix(".nrrd")
    path.write_bytes(_nrrd_text("gzip", "30000 30000 500") + gzip.compress(bytes(100_000)))
    return path


def _bzip2_nrrd(path: Path) -> Path:
    path = path.with_suffix(".nrrd")
    path.write_bytes(_nrrd_text("bzip2", "90000 90000 500") + bytes(100))
    return path


def _negative_nrrd(path: Path) -> Path:
    path = path.with_suffix(".nrrd")
    path.write_bytes(_nrrd_text("raw", "-5 8 8") + bytes(1000))
    return path


def _zarr(path: Path, shape: tuple[int, ...], chunks: tuple[int, ...]) -> Path:
    path = path.with_suffix(".zarr")
    path.mkdir()
    metadata = {
        "zarr_format": 2,
        "shape": shape,
        "chunks": chunks,
        "dtype": "<u2",
        "compressor": None,
        "fill_value": 0,
        "order": "C",
        "filters": None,
    }
    (path / ".zarray").write_text(json.dumps(metadata))
    return path


def _zarr_planes(path: Path) -> Path:
    return _zarr(path, (1_000_000_000, 64, 64), (1, 64, 64))


def _zarr_5d(path: Path) -> Path:
    return _zarr(path, (50_000, 50, 50_000, 64, 64), (1, 1, 1, 64, 64))


def _zarr_plane(path: Path) -> Path:
    return _zarr(path, (3, 1_000_000, 1_000_000), (1, 512, 512))


def _imagej(path: Path) -> Path:
    path = path.with_suffix(".tif")
    text = "ImageJ=1.53t\nimages=2000000000\nslices=2000000000\n"
    tifffile.imwrite(path, _VOLUME[0].astype(np.uint16), description=text, metadata=None)
    return path


def _tiff_plane(path: Path) -> Path:
    path = path.with_suffix(".tif")
    tifffile.imwrite(path, np.zeros((64, 64), np.uint16), compression="zlib", metadata=None)
    with tifffile.TiffFile(path, mode="r+") as file:
        for name in ("ImageWidth", "ImageLength"):
            file.pages.first.tags[name].overwrite(1_000_000, dtype="I")
    return path


def _npy(path: Path) -> Path:
    path = path.with_suffix(".npy")
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<u2", "fortran_order": False, "shape": (10**9, 64, 64)}
        )
        file.write(bytes(1000))
    return path


@pytest.mark.parametrize(
    "write",
    [
        _nifti,
        _gzipped_nifti,
        _nifti_extension,
        _raw_nrrd,
        _gzipped_nrrd,
        _bzip2_nrrd,
        _negative_nrrd,
        _zarr_planes,
        _zarr_5d,
        _zarr_plane,
        _imagej,
        _tiff_plane,
        _npy,
    ],
)
def test_size_that_the_file_cannot_contain_raises_one_line_without_memory(
    write: Callable[[Path], Path], tmp_path: Path
) -> None:
    path = write(tmp_path / "a")
    tracemalloc.start()
    try:
        with pytest.raises(FileError) as error:
            open_stack(path, axes="TCZYX" if write is _zarr_5d else "ZYX")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert peak < 50e6


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii"])
@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("whole_bytes", [2**29, 0], ids=["whole", "streamed"])
def test_nrrd_is_read_plane_by_plane(
    encoding: str,
    detached: bool,
    whole_bytes: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nrrd_reader, "_MAX_WHOLE_BYTES", whole_bytes)
    path = tmp_path / ("a.nhdr" if detached else "a.nrrd")
    nrrd.write(
        str(path),
        _VOLUME,
        {"encoding": encoding, "spacings": [1, 1, 1]},
        detached_header=detached,
        index_order="C",
    )
    stack = open_stack(path, axes="ZYX")
    for z in (5, 0, 7, 3):
        np.testing.assert_array_equal(stack.read_plane({"z": z}), _VOLUME[z])


@pytest.mark.parametrize("endian", ["little", "big"])
def test_nrrd_with_skipped_lines_and_bytes(endian: str, tmp_path: Path) -> None:
    data = _VOLUME.astype(_VOLUME.dtype.newbyteorder("<" if endian == "little" else ">"))
    text = _nrrd_text("raw", "6 7 8", "line skip: 2\nbyte skip: 3\n")
    text = text.replace(b"little", endian.encode())
    (tmp_path / "a.nrrd").write_bytes(text + b"one\ntwo\nabc" + data.tobytes())
    np.testing.assert_array_equal(np.asarray(open_stack(tmp_path / "a.nrrd").data), _VOLUME)
    text = _nrrd_text("raw", "6 7 8", "byte skip: -1\n").replace(b"little", endian.encode())
    (tmp_path / "b.nrrd").write_bytes(text + b"anything" + data.tobytes())
    np.testing.assert_array_equal(np.asarray(open_stack(tmp_path / "b.nrrd").data), _VOLUME)


def test_large_compressed_nifti_is_read_plane_by_plane(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nifti_reader, "_MAX_WHOLE_BYTES", 0)
    image: Any = nibabel.Nifti1Image(_VOLUME.T, np.eye(4))  # type: ignore[no-untyped-call]
    nibabel.save(image, tmp_path / "a.nii.gz")
    stack = open_stack(tmp_path / "a.nii.gz")
    for z in (5, 0, 7, 3):
        np.testing.assert_array_equal(stack.read_plane({"z": z}), _VOLUME[z])


def test_gzip_bomb_takes_the_memory_of_a_plane(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nrrd_reader, "_MAX_WHOLE_BYTES", 2**24)
    sizes = "1024 1024 60"  # 120 MB of zeros
    with (tmp_path / "a.nrrd").open("wb") as file:
        file.write(_nrrd_text("gzip", sizes))
        with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1) as stream:
            for _ in range(60):
                stream.write(bytes(2 * 1024 * 1024))
    stack = open_stack(tmp_path / "a.nrrd")
    tracemalloc.start()
    try:
        assert stack.read_plane({"z": 40}).max() == 0
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50e6


@pytest.mark.parametrize(
    "name", ["../secret.raw", "/etc/hostname", f"{_DRIVE}\\secret.raw", "a/../../s.raw"]
)
def test_nrrd_that_names_a_file_outside_of_its_folder_raises(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "secret.raw").write_bytes(_VOLUME.tobytes())
    (folder / "a.nhdr").write_bytes(_nrrd_text("raw", "6 7 8", f"data file: {name}\n"))
    with pytest.raises(FileError, match="which is not in its folder"):
        open_stack(folder / "a.nhdr")


def test_zarr_of_many_planes_opens_without_reading_them(tmp_path: Path) -> None:
    stack = open_stack(_zarr(tmp_path / "a", (100_000, 64, 64), (1, 64, 64)), axes="TYX")
    assert stack.read_plane({"t": 99_999}).max() == 0
    assert zarr.open_array(stack.source, mode="r").shape == (100_000, 64, 64)


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (DetectionOptions(diameter_px=1e9), "a diameter of 1e+09 px: expected at most 80"),
        (DetectionOptions(diameter_px=81.0), "a diameter of 81 px"),
        (DetectionOptions(diameter_um=1e9), "a diameter of 2e+09 px"),
    ],
)
def test_diameter_longer_than_a_frame_raises(options: DetectionOptions, shown: str) -> None:
    pixels = np.random.default_rng(0).random((2, 64, 80))
    video = Video.of(open_stack(pixels, axes="TYX", spacing=(0.5, 0.5)))
    with pytest.raises(PlanError, match=re.escape(shown)):
        options.estimate_scale(video)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SpotOptions(sigma_px=1e9),
        lambda: SpotOptions(sigma_z=1e9),
        lambda: MeasurementOptions(cytoplasm_px=10**9),
    ],
)
def test_reach_that_takes_all_memory_raises(make: Callable[[], object]) -> None:
    with pytest.raises(MeasurementError, match="expected at most"):
        make()
