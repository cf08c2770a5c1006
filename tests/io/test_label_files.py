"""Label files in the forms that other tools write, and files that cannot be labels."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import av
import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_sam2.core.errors import LabelsError
from napari_sam2.io.open import open_labels, open_stack

_LABELS = np.zeros((32, 40), np.uint8)
_LABELS[2:8, 2:8], _LABELS[20:28, 20:28] = 1, 2


def _write_palette(path: Path) -> None:
    picture = Image.fromarray(_LABELS, mode="L").convert("P")
    picture.putdata(_LABELS.ravel().tolist())
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    picture.save(path)


def _write_nibbles(path: Path) -> None:
    """Write 4 bits a pixel, because Pillow writes 8."""

    def make_chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    rows = _LABELS[:, ::2] << 4 | _LABELS[:, 1::2]
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", 40, 32, 4, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(make_chunk(*each) for each in chunks))


def _write_palette_tiff(path: Path) -> None:
    palette = np.random.default_rng(0).integers(0, 65_536, (3, 256)).astype(np.uint16)
    tifffile.imwrite(path, _LABELS, photometric="palette", colormap=palette, metadata=None)


def _write_grey_as_colour(path: Path) -> None:
    Image.fromarray(np.repeat(_LABELS[..., None], 3, axis=2)).save(path)


def _write_nifti(path: Path) -> None:
    image: Any = nibabel.Nifti1Image(  # type: ignore[no-untyped-call]
        _LABELS.T[..., None].astype(np.float64), np.eye(4)
    )
    nibabel.save(image, path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("palette.png", _write_palette),
        ("palette.gif", _write_palette),
        ("palette.bmp", _write_palette),
        ("palette.tif", _write_palette_tiff),
        ("nibbles.png", _write_nibbles),
        ("colour.png", _write_grey_as_colour),
        ("colour.tif", _write_grey_as_colour),
        ("float.tif", lambda path: tifffile.imwrite(path, _LABELS.astype(np.float32))),
        ("float.npy", lambda path: np.save(path, _LABELS.astype(np.float64))),
        ("float.nii", _write_nifti),
        ("lossless.webp", lambda path: Image.fromarray(_LABELS).save(path, lossless=True)),
    ],
)
def test_exact_labels_are_read(name: str, write: Any, tmp_path: Path) -> None:
    write(tmp_path / name)
    labels = open_labels(tmp_path / name)
    assert labels.data.dtype.kind == "u"
    np.testing.assert_array_equal(np.asarray(labels.data), _LABELS)


def test_folder_of_palette_files_is_read_as_indices(tmp_path: Path) -> None:
    for number in range(3):
        _write_palette(tmp_path / f"{number:05d}.png")
    labels = open_labels(tmp_path, axes="TYX")
    np.testing.assert_array_equal(labels.read_plane({"t": 2}), _LABELS)
    assert open_stack(tmp_path, axes="TYX").rgb


@pytest.mark.parametrize("compression", [None, "zlib", "packbits"])
@pytest.mark.parametrize("photometric", [None, "minisblack", "miniswhite"])
def test_masks_of_1_bit_are_objects_on_a_background(
    photometric: str | None, compression: str | None, tmp_path: Path
) -> None:
    mask = _LABELS > 0
    stored = ~mask if photometric == "miniswhite" else mask
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric=photometric, compression=compression)
    labels = open_labels(tmp_path / "a.tif")
    np.testing.assert_array_equal(np.asarray(labels.data), mask)
    assert bool(labels.notes) == (photometric != "minisblack")


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, -1.0, 2.0**33])
def test_floats_that_are_no_labels_raise_on_read(value: float, tmp_path: Path) -> None:
    pixels = _LABELS.astype(np.float64)
    pixels[3, 3] = value
    np.save(tmp_path / "a.npy", pixels)
    labels = open_labels(tmp_path / "a.npy")
    with pytest.raises(LabelsError, match="whole numbers|numbers from 1"):
        labels.read_plane({})


def _write_jpeg_tiff(path: Path) -> None:
    tifffile.imwrite(path, _LABELS, compression="jpeg", metadata=None)


def _write_jpeg2000_tiff(path: Path) -> None:
    options = {"reversible": False, "level": 30}
    tifffile.imwrite(path, _LABELS, compression="jpeg2000", compressionargs=options, metadata=None)


def _write_h264(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 40, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(_LABELS, format="gray")))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.jpg", lambda path: Image.fromarray(_LABELS).save(path)),
        ("a.webp", lambda path: Image.fromarray(_LABELS).save(path)),
        ("jpeg.tif", _write_jpeg_tiff),
        ("jpeg2000.tif", _write_jpeg2000_tiff),
        ("a.mp4", _write_h264),
    ],
)
def test_lossy_files_are_no_labels(name: str, write: Any, tmp_path: Path) -> None:
    write(tmp_path / name)
    with pytest.raises(LabelsError, match="changes numbers"):
        open_labels(tmp_path / name)
    assert open_stack(tmp_path / name).sizes["y"] == 32


def test_reversible_jpeg2000_is_no_lossy_compression(tmp_path: Path) -> None:
    options = {"reversible": True, "level": 0}
    tifffile.imwrite(
        tmp_path / "a.tif", _LABELS, compression="jpeg2000", compressionargs=options, metadata=None
    )
    np.testing.assert_array_equal(np.asarray(open_labels(tmp_path / "a.tif").data), _LABELS)


def test_colours_are_no_labels(tmp_path: Path) -> None:
    colours = np.zeros((32, 40, 3), np.uint8)
    colours[2:8, 2:8], colours[20:28, 20:28] = (255, 0, 0), (0, 255, 0)
    Image.fromarray(colours).save(tmp_path / "a.png")
    with pytest.raises(LabelsError, match="3 channels that differ"):
        open_labels(tmp_path / "a.png")
