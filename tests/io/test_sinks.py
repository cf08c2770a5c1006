"""Label sinks: the content of the file, and what remains if writing fails."""

from __future__ import annotations

import os
import resource
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaozarrs
import zarr

from napari_sam2.core.errors import LabelsError, OutputError
from napari_sam2.core.protocols import Sink
from napari_sam2.core.stack import Spacing, Stack
from napari_sam2.io.open import open_labels
from napari_sam2.io.writers import tiff_sink
from napari_sam2.io.writers.sinks import LabelSpec, open_sink
from napari_sam2.testing.contracts.sink import SHAPE, SinkContract

_FORMATS = ("tiff", "zarr")
_SPACING = Spacing(z_um=2.0, y_um=0.5, x_um=0.25, t_s=12.5)
_SPEC = LabelSpec("zyx", (5, 24, 32), np.dtype(np.uint16), _SPACING)
_LABELS = np.random.default_rng(0).integers(0, 300, _SPEC.shape).astype(np.uint16)


class TestOmeTiffSink(SinkContract):
    def make_sink(self, folder: Path, *, dtype: np.dtype) -> Sink:
        return open_sink(folder, LabelSpec("tyx", SHAPE, dtype, _SPACING), format="tiff")

    def read(self, path: Path) -> np.ndarray:
        return tifffile.imread(path)

    def read_axes(self, path: Path) -> str:
        with tifffile.TiffFile(path) as file:
            return file.series[0].axes.lower()


class TestOmeZarrSink(SinkContract):
    def make_sink(self, folder: Path, *, dtype: np.dtype) -> Sink:
        return open_sink(folder, LabelSpec("tyx", SHAPE, dtype, _SPACING), format="zarr")

    def read(self, path: Path) -> np.ndarray:
        return np.asarray(zarr.open_group(path, mode="r")["0"])

    def read_axes(self, path: Path) -> str:
        ome: Any = zarr.open_group(path, mode="r").attrs["ome"]
        return "".join(axis["name"] for axis in ome["multiscales"][0]["axes"])


def _write(
    folder: Path, format: str, spec: LabelSpec = _SPEC, labels: np.ndarray = _LABELS
) -> Path:
    with open_sink(folder, spec, format=format) as sink:
        for frame, plane in enumerate(labels):
            sink.put(frame, plane)
    return sink.path


def _put(
    folder: Path, format: str, *planes: tuple[int, np.ndarray], error: BaseException | None = None
) -> None:
    with open_sink(folder, _SPEC, format=format) as sink:
        for frame, plane in planes:
            sink.put(frame, plane)
        if error:
            raise error


@pytest.mark.parametrize("format", _FORMATS)
@pytest.mark.parametrize("axes", ["zyx", "tyx"])
@pytest.mark.parametrize(
    "spacing", [_SPACING, Spacing(), Spacing(y_um=0.1, x_um=0.3)], ids=["all", "none", "flat"]
)
def test_written_labels_open_equal(
    format: str, axes: str, spacing: Spacing, tmp_path: Path
) -> None:
    spec = replace(_SPEC, axes=axes, spacing=spacing)
    stack = open_labels(_write(tmp_path, format, spec))
    assert (stack.axes, stack.data.dtype, stack.name) == (axes, np.uint16, "labels")
    absent = "t_s" if axes == "zyx" else "z_um"
    assert stack.spacing == replace(spacing, **{absent: None})
    np.testing.assert_array_equal(np.asarray(stack.data), _LABELS)


def test_tiff_is_a_compressed_ome_tiff_with_units(tmp_path: Path) -> None:
    with tifffile.TiffFile(_write(tmp_path, "tiff", replace(_SPEC, axes="tyx"))) as file:
        assert file.is_ome and not file.is_bigtiff
        assert file.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        xml = file.ome_metadata or ""
    for part in (
        'PhysicalSizeX="0.25"',
        'PhysicalSizeXUnit="µm"',
        'PhysicalSizeY="0.5"',
        'TimeIncrement="12.5"',
        'TimeIncrementUnit="s"',
    ):
        assert part in xml


def test_large_labels_become_a_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff_sink, "MAX_CLASSIC_BYTES", 1000)
    path = _write(tmp_path, "tiff")
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff
    np.testing.assert_array_equal(np.asarray(open_labels(path).data), _LABELS)


def test_zarr_is_a_valid_label_image_with_units(tmp_path: Path) -> None:
    path = _write(tmp_path, "zarr", replace(_SPEC, axes="tyx"))
    yaozarrs.validate_zarr_store(str(path))
    ome: Any = zarr.open_group(path, mode="r").attrs["ome"]
    assert ome["version"] == "0.5" and ome["image-label"] == {"version": "0.5"}
    assert [axis["unit"] for axis in ome["multiscales"][0]["axes"]] == [
        "second",
        "micrometer",
        "micrometer",
    ]
    assert ome["multiscales"][0]["datasets"][0]["coordinateTransformations"] == [
        {"type": "scale", "scale": [12.5, 0.5, 0.25]}
    ]


@pytest.mark.parametrize(
    ("max_track", "dtype"), [(1, "uint16"), (65_535, "uint16"), (65_536, "uint32")]
)
def test_type_depends_on_the_largest_track(max_track: int, dtype: str) -> None:
    video = Stack(np.arange(60, dtype=np.uint8).reshape(3, 4, 5), "zyx", _SPACING).as_video()
    spec = LabelSpec.of(video, max_track)
    assert (spec.axes, spec.shape, spec.dtype, spec.spacing) == (
        "zyx",
        (3, 4, 5),
        np.dtype(dtype),
        _SPACING,
    )


@pytest.mark.parametrize(
    ("axes", "shape", "dtype"),
    [
        ("yx", (1, 4, 4), "u2"),
        ("zyx", (0, 4, 4), "u2"),
        ("zyx", (1, 4, 4), "f4"),
        ("zyx", (1, 4, 4), "i4"),
    ],
)
def test_invalid_label_spec_raises(axes: str, shape: Any, dtype: str) -> None:
    with pytest.raises(LabelsError, match="expected"):
        LabelSpec(axes, shape, np.dtype(dtype))


@pytest.mark.parametrize("format", _FORMATS)
@pytest.mark.parametrize(
    ("frame", "plane", "message"),
    [
        (5, _LABELS[0], "frame 5: expected each of the frames 0 to 4 once"),
        (0, _LABELS[0], "once"),
        (1, _LABELS[0, :5], "expected whole numbers"),
        (1, _LABELS[0].astype(np.float32), "expected whole numbers"),
        (1, _LABELS[0].astype(np.uint32) + 65_536, "expected 0 to 65535, the range of uint16"),
        (1, _LABELS[0].astype(np.int32) - 5, "from -5"),
    ],
    ids=["outside", "twice", "shape", "float", "large", "negative"],
)
def test_plane_that_does_not_fit_raises_and_leaves_no_file(
    format: str, frame: int, plane: np.ndarray, message: str, tmp_path: Path
) -> None:
    with pytest.raises(LabelsError, match=message):
        _put(tmp_path, format, (0, _LABELS[0]), (frame, plane))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", _FORMATS)
def test_missing_frames_raise_and_leave_no_file(format: str, tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match="3 of 5 frames were not written, 1 the first"):
        _put(tmp_path, format, (0, _LABELS[0]), (4, _LABELS[4]))
    assert list(tmp_path.iterdir()) == []


@contextmanager
def _limit_file_size(size: int) -> Iterator[None]:
    """Limit all files to `size` bytes, to simulate a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("format", _FORMATS)
def test_full_disk_raises_an_output_error_and_keeps_the_older_file(
    format: str, tmp_path: Path
) -> None:
    older = _write(tmp_path, format)
    noise = np.random.default_rng(0).integers(0, 60_000, (6, 400, 400)).astype(np.uint16)
    spec = LabelSpec("zyx", (6, 400, 400), np.dtype(np.uint16))
    with (
        pytest.raises(OutputError, match=r"labels\.ome\.(tif|zarr): cannot be written .*--out"),
        _limit_file_size(100_000),
    ):
        _write(tmp_path, format, spec, noise)
    assert [path.name for path in tmp_path.iterdir()] == [older.name]
    np.testing.assert_array_equal(np.asarray(open_labels(older).data), _LABELS)


@pytest.mark.parametrize("format", _FORMATS)
def test_error_of_the_caller_passes_through(format: str, tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError, match="the run"):
        _put(tmp_path, format, error=ConnectionResetError("the run"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", _FORMATS)
def test_interrupt_leaves_no_file(format: str, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _put(tmp_path, format, (0, _LABELS[0]), error=KeyboardInterrupt())
    assert list(tmp_path.iterdir()) == []


def test_older_folder_is_restored_if_replacing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, replace_ = _write(tmp_path, "zarr"), os.replace

    def refuse(source: Path, target: Path) -> None:
        if source.name.endswith(".part"):
            raise PermissionError(13, "Permission denied")
        replace_(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OutputError, match="Permission denied"):
        _write(tmp_path, "zarr", labels=_LABELS[::-1])
    assert list(tmp_path.iterdir()) == [older]
    np.testing.assert_array_equal(np.asarray(open_labels(older).data), _LABELS)


def test_unknown_format_error_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="expected one of tiff, zarr"):
        open_sink(tmp_path / "out", _SPEC, format="png")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format", _FORMATS)
def test_memory_does_not_grow_with_the_number_of_frames(format: str, tmp_path: Path) -> None:
    plane = np.kron(
        np.random.default_rng(0).integers(0, 900, (32, 32)), np.ones((16, 16), int)
    ).astype(np.uint32)
    peaks = []
    for frames in (2, 4, 40):  # the first is not compared, because it imports modules
        labels = np.broadcast_to(plane, (frames, 512, 512))
        tracemalloc.start()
        _write(
            tmp_path / str(frames),
            format,
            LabelSpec("tyx", (frames, 512, 512), np.dtype(np.uint32)),
            labels,
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] - peaks[1] < 4 * plane.nbytes
