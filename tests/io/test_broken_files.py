"""Files that are missing, truncated, empty or of another kind raise one clear line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from napari_sam2.core.errors import FileError
from napari_sam2.io.open import open_stack

_ROOT = Path(__file__).resolve().parents[2]
_PIXELS = np.random.default_rng(0).integers(0, 60_000, (6, 40, 50)).astype(np.uint16)


def _text(path: Path) -> Path:
    (path / "text.tif").write_text("not an image")
    return path / "text.tif"


def _nothing(path: Path) -> Path:
    (path / "nothing.tif").touch()
    return path / "nothing.tif"


def _no_images(path: Path) -> Path:
    (path / "README.md").write_text("images are elsewhere")
    return path


def _document(path: Path) -> Path:
    (path / "data.docx").write_bytes(b"PK")
    return path / "data.docx"


def _picture(path: Path) -> Path:
    (path / "picture.png").write_text("not an image")
    return path / "picture.png"


def _pickle(path: Path) -> Path:
    np.save(path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return path / "objects.npy"


def _short_npy(path: Path) -> Path:
    np.save(path / "short.npy", _PIXELS)
    (path / "short.npy").write_bytes((path / "short.npy").read_bytes()[:5000])
    return path / "short.npy"


def _group(path: Path) -> Path:
    zarr.create_group(path / "a.zarr").create_array("raw", shape=(4, 4), dtype="u1")
    return path / "a.zarr"


def _broken_group(path: Path) -> Path:
    zarr.create_group(
        path / "a.zarr", attributes={"ome": {"version": "0.5", "multiscales": [{"axes": []}]}}
    )
    return path / "a.zarr"


def _broken_json(path: Path) -> Path:
    (path / "a.zarr").mkdir()
    (path / "a.zarr" / "zarr.json").write_text("{")
    return path / "a.zarr"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path / "missing.tif", "missing.tif: No such file"),
        (lambda path: path / "t*.tif", "no images found"),
        (_text, "text.tif.*expected a whole TIFF"),
        (_nothing, "nothing.tif: is empty"),
        (_no_images, "no images found"),
        (_document, "unknown kind.*expected a file ending in .tif"),
        (_picture, "picture.png.*expected a whole PNG"),
        (_pickle, "objects.npy.*expected an array of numbers"),
        (_short_npy, "short.npy.*expected an array of numbers"),
        (_group, r"without an image: give the path of one of its members, \[\"raw\"\]"),
        (_broken_group, "a.zarr: cannot be read as zarr"),
        (_broken_json, "a.zarr: cannot be read as zarr"),
    ],
)
def test_file_without_an_image_raises_a_one_line_error(
    make: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    with pytest.raises(FileError, match=message) as caught:
        open_stack(make(tmp_path))
    assert "\n" not in str(caught.value)


_WRITERS: dict[str, dict[str, Any]] = {
    "ome": {"ome": True, "metadata": {"axes": "TYX"}},
    "ome-zlib": {"ome": True, "metadata": {"axes": "TYX"}, "compression": "zlib"},
    "ome-tiled": {
        "ome": True,
        "metadata": {"axes": "TYX"},
        "compression": "zlib",
        "tile": (16, 16),
    },
    "imagej": {"imagej": True, "metadata": {"axes": "TYX"}},
    "imagej-zlib": {"imagej": True, "metadata": {"axes": "TYX"}, "compression": "zlib"},
    "shaped": {"metadata": {"axes": "TYX"}},
    "shaped-lzw": {"metadata": {"axes": "TYX"}, "compression": "lzw"},
    "plain": {"metadata": None},
    "plain-zlib": {"metadata": None, "compression": "zlib"},
}


@pytest.mark.parametrize("writer", _WRITERS)
def test_truncated_tiff_never_opens_as_a_shorter_stack(writer: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", _PIXELS, photometric="minisblack", **_WRITERS[writer])
    whole = (tmp_path / "a.tif").read_bytes()
    for cut in sorted({int(part * len(whole)) for part in np.linspace(0.01, 0.999, 60)}):
        (tmp_path / "cut.tif").write_bytes(whole[:cut])
        try:
            read = np.asarray(open_stack(tmp_path / "cut.tif", axes="TYX").data)
        except FileError:
            continue
        np.testing.assert_array_equal(
            read, _PIXELS, err_msg=f"cut at {cut} of {len(whole)}"
        )  # only padding was lost


def test_truncated_list_of_pages_raises(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for plane in _PIXELS:
            file.write(plane, compression="zlib", metadata=None, photometric="minisblack")
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileError, match="breaks off"):
        open_stack(tmp_path / "a.tif", axes="TYX")


def test_error_names_the_damaged_page(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.ome.tif",
        _PIXELS,
        photometric="minisblack",
        compression="zlib",
        metadata={"axes": "TYX"},
    )
    with tifffile.TiffFile(tmp_path / "a.ome.tif", mode="r+") as file:
        file.filehandle.seek(file.pages[3].dataoffsets[0] + 10)
        file.filehandle.write(b"\xff" * 200)
    video_data = open_stack(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(video_data.read_plane({"t": 2}), _PIXELS[2])
    with pytest.raises(FileError, match=r"a\.ome\.tif: plane 3") as caught:
        video_data.read_plane({"t": 3})
    assert caught.value.frame == 3
    assert "\n" not in str(caught.value)


def test_plane_that_ome_xml_declares_but_the_file_lacks_raises(
    tmp_path: Path,
) -> None:
    tifffile.imwrite(
        tmp_path / "a.ome.tif", _PIXELS, photometric="minisblack", metadata={"axes": "TYX"}
    )
    whole = (tmp_path / "a.ome.tif").read_bytes()
    (tmp_path / "a.ome.tif").write_bytes(whole.replace(b'SizeT="6"', b'SizeT="8"'))
    stack = open_stack(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(stack.read_plane({"t": 5}), _PIXELS[5])
    with pytest.raises(FileError, match="plane 7.*does not contain it"):
        stack.read_plane({"t": 7})


def test_broken_file_prints_only_our_error(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", _PIXELS, photometric="minisblack", metadata=None)
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:9000])
    code = (
        "import sys; from napari_sam2.io.open import open_stack\ntry: "
        "open_stack(sys.argv[1])\nexcept OSError as error: print(error)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.tif")],
        capture_output=True,
        text=True,
        check=True,
        cwd=_ROOT,
    )
    assert process.stderr == "" and len(process.stdout.splitlines()) == 1


def test_file_deleted_after_opening_raises_on_read(tmp_path: Path) -> None:
    for number in range(3):
        tifffile.imwrite(tmp_path / f"t{number}.tif", _PIXELS[number])
    stack = open_stack(tmp_path, axes="TYX")
    (tmp_path / "t1.tif").unlink()
    with pytest.raises(FileError, match="plane 1") as caught:
        stack.read_plane({"t": 1})
    assert caught.value.frame == 1


@pytest.mark.parametrize("version", [2, 3])
def test_error_names_the_damaged_zarr_chunk(version: Any, tmp_path: Path) -> None:
    array = zarr.create_array(
        tmp_path / "a.zarr",
        shape=_PIXELS.shape,
        chunks=(1, 40, 50),
        dtype="u2",
        zarr_format=version,
    )
    array[:] = _PIXELS
    chunk = tmp_path / "a.zarr" / ("4.0.0" if version == 2 else "c/4/0/0")
    chunk.write_bytes(chunk.read_bytes()[:100])
    stack = open_stack(tmp_path / "a.zarr", axes="TYX")
    np.testing.assert_array_equal(stack.read_plane({"t": 3}), _PIXELS[3])
    with pytest.raises(FileError, match=r"a\.zarr: plane 4") as caught:
        stack.read_plane({"t": 4})
    assert caught.value.frame == 4


def test_error_names_the_file_of_another_shape(tmp_path: Path) -> None:
    for number in range(5):
        tifffile.imwrite(
            tmp_path / f"t{number}.tif", np.zeros((20, 30 if number != 3 else 31), np.uint8)
        )
    with pytest.raises(
        FileError, match=r"t3\.tif is uint8 \(20, 31\) and 4 of 5 files are uint8 \(20, 30\)"
    ):
        open_stack(tmp_path, axes="TYX")


def test_truncated_png_raises_on_read(tmp_path: Path) -> None:
    Image.fromarray(_PIXELS[0].astype(np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:900])
    with pytest.raises(FileError, match=r"a\.png"):
        np.asarray(open_stack(tmp_path / "a.png").data)
