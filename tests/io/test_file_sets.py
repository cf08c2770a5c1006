"""Folders: masks beside images, names with times, channels and positions, and sets of OME-TIFF."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
import tifffile

from napari_sam2.core.errors import AxesError, FileError
from napari_sam2.io.open import open_labels, open_stack

_SHAPE = (24, 32)


def write_files(folder: Path, names: list[str]) -> None:
    """Write a plane for each name, whose value is its number in the list."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / name, np.full(_SHAPE, number, np.uint16))


@pytest.mark.parametrize(
    "ending", ["_masks", "_cp_masks", "_seg", "_labels", "_mask", "_label", "-segmentation"]
)
def test_labels_beside_images_are_left_out_and_said(ending: str, tmp_path: Path) -> None:
    names = [f"frame_{number:03d}.tif" for number in range(3)]
    write_files(tmp_path, names + [name.replace(".tif", f"{ending}.tif") for name in names])
    stack = open_stack(tmp_path, axes="TYX")
    assert np.asarray(stack.data)[:, 0, 0].tolist() == [0, 1, 2]
    assert "3 of 6 files are labels" in stack.notes[0]
    labels = open_labels(tmp_path, axes="TYX")
    assert np.asarray(labels.data)[:, 0, 0].tolist() == [3, 4, 5]
    assert "3 of 6 files are images" in labels.notes[0]


def test_masks_before_the_number_and_outlines_are_left_out(tmp_path: Path) -> None:
    write_files(
        tmp_path, ["t000.tif", "t001.tif", "mask000.tif", "mask001.tif", "t000_outlines.tif"]
    )
    stack = open_stack(tmp_path, axes="TYX")
    assert np.asarray(stack.data)[:, 0, 0].tolist() == [0, 1]
    labels = open_labels(tmp_path, axes="TYX")
    assert np.asarray(labels.data)[:, 0, 0].tolist() == [2, 3]


def test_folder_of_masks_alone_is_read(tmp_path: Path) -> None:
    write_files(tmp_path, ["mask000.tif", "mask001.tif"])
    assert not open_stack(tmp_path, axes="TYX").notes
    assert open_labels(tmp_path, axes="TYX").sizes["t"] == 2


@pytest.mark.parametrize(
    ("pattern", "axes"),
    [
        ("img_channel{c:03d}_position000_time{t:09d}_z000.tif", "tcyx"),
        ("img_{t:09d}_{name}_000.tif", "tcyx"),
        ("Plate_A01_s1_w{w}_t{t}.tif", "tcyx"),
        ("scan_w{w}{name}_t{t:02d}.TIF", "tcyx"),
        ("exp_T{t:03d}C{c:02d}Z01.tif", "tcyx"),
        ("r02c03f01p01-ch{w}sk{t}fk1fl1.tif", "tcyx"),
        ("W00001--P00001--Z00000--T{t:05d}--{name}.tif", "tcyx"),
        ("{name}/time{t}.tif", "tcyx"),
        ("slice{t:02d}_ch{c}.tif", "czyx"),
        ("Series001_t{t:02d}_z{c:02d}_ch00.tif", "tzyx"),
    ],
)
def test_names_give_axes(pattern: str, axes: str, tmp_path: Path) -> None:
    names = [
        pattern.format(t=t, c=c, w=c + 1, name=("DAPI", "Cy5")[c]) for t in range(3) for c in (0, 1)
    ]
    write_files(tmp_path, names)
    stack = open_stack(str(tmp_path / "*" / "*.tif") if "/" in pattern else tmp_path)
    assert stack.axes == axes
    values = np.asarray(stack.data)[..., 0, 0]
    if "{name}" in pattern:
        order = [0 if "DAPI" in name else 1 for name in stack.channels]
        assert {name.lstrip("w12") for name in stack.channels} == {"DAPI", "Cy5"}
    else:
        order = [0, 1]
    times = {"tcyx": values, "tzyx": values, "czyx": values.T}[axes]
    assert times.tolist() == [[2 * t + c for c in order] for t in range(3)]
    with pytest.raises(AxesError, match="read as"):
        open_stack(str(tmp_path / "*" / "*.tif") if "/" in pattern else tmp_path, axes="TYX")


def test_two_numbers_without_words_are_two_axes(tmp_path: Path) -> None:
    write_files(tmp_path, [f"scan_{a}_{b}.tif" for a in range(3) for b in range(2)])
    with pytest.raises(AxesError, match="--axes TZYX"):
        open_stack(tmp_path)
    assert open_stack(tmp_path, axes="ZTYX").data.shape == (2, 3, *_SHAPE)


@pytest.mark.parametrize(
    ("names", "axes"),
    [
        ([f"img_{n}.tif" for n in (2, 10, 1)], None),
        ([f"img_t{n}_20240501_1033{n}.tif" for n in (2, 10, 1)], None),
        ([f"2024-05-01_10-{n:02d}-{7 * n:02d}.tif" for n in (2, 5, 1)], None),
        (["b.tif", "c.tif", "a.tif"], None),
        ([f"time{n}.tif" for n in (2, 10, 1)], "tyx"),
        ([f"img_z{n}_ch0.tif" for n in (2, 10, 1)], None),
    ],
)
def test_one_number_is_one_axis(names: list[str], axes: str | None, tmp_path: Path) -> None:
    write_files(tmp_path, names)
    if axes is None:
        with pytest.raises(AxesError, match="--axes ZYX, TYX"):
            open_stack(tmp_path)
    stack = open_stack(tmp_path, axes=None if axes else "TYX")
    assert np.asarray(stack.data)[:, 0, 0].tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([f"img_pos{p}_time{t}.tif" for p in (0, 1) for t in (0, 1)], "2 positions"),
        ([f"site{p}.tif" for p in range(3)], "3 positions"),
        ([f"A_s{p}_w{c}.tif" for p in (1, 2) for c in (1, 2)], "2 positions"),
        ([f"plate_B0{w}_t{t}.tif" for w in (1, 2) for t in (1, 2)], r"2 wells \(B01, B02\)"),
        ([f"t{t}_ch{c}.tif" for t in range(3) for c in (0, 1) if (t, c) != (1, 1)], "t 1, c 1"),
        ([*(f"t{t:03d}.tif" for t in range(4)), "dark1.tif"], r"another form \(dark1.tif\)"),
        ([*(f"t{t:03d}.tif" for t in range(4)), "t000_mip.tif"], r"another form \(t000_mip.tif\)"),
        (["t0.tif", "t1.tif", "t0.tiff", "t1.tiff"], "in 2 formats"),
    ],
)
def test_foreign_and_missing_files_are_said(names: list[str], message: str, tmp_path: Path) -> None:
    write_files(tmp_path, names)
    with pytest.raises(FileError, match=message):
        open_stack(tmp_path, axes="TYX")


def test_gap_in_the_numbers_is_noted(tmp_path: Path) -> None:
    write_files(tmp_path, [f"t{number:03d}.tif" for number in (0, 1, 2, 4, 5)])
    stack = open_stack(tmp_path, axes="TYX")
    assert "1 numbers are missing" in stack.notes[0] and "after 2" in stack.notes[0]
    every_fifth = tmp_path / "fifth"
    write_files(every_fifth, [f"t{number:03d}.tif" for number in (0, 5, 10, 15)])
    assert not open_stack(every_fifth, axes="TYX").notes


def _make_xml(uuid: str, planes: str, sizes: str) -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{uuid}">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
        f'SizeX="32" SizeY="24" {sizes} PhysicalSizeX="0.5" PhysicalSizeY="0.5">'
        f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>'
    )


def write_ome_set(
    folder: Path, *, axis: str = "T", companion: bool = False, count: int = 4
) -> list[Path]:
    """Write a set of OME-TIFF, one file a step; plane n has the value 100 (n + 1)."""
    uuids = [f"urn:uuid:{UUID(int=number + 1)}" for number in range(count + 1)]
    files = [folder / f"scan_{axis}{number:03d}.ome.tif" for number in range(count)]
    planes = "".join(
        f'<TiffData First{axis}="{number}" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{file.name}">{uuids[number]}</UUID></TiffData>'
        for number, file in enumerate(files)
    )
    lengths = dict.fromkeys("ZCT", 1) | {axis: count}
    sizes = " ".join(f'Size{name}="{length}"' for name, length in lengths.items())
    if companion:
        xml = _make_xml(uuids[count], planes, sizes)
        (folder / "scan.companion.ome").write_text(xml, encoding="utf-8")
    for number, file in enumerate(files):
        own = _make_xml(uuids[number], planes, sizes)
        if companion:
            own = (
                '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
                f'UUID="{uuids[number]}"><BinaryOnly MetadataFile="scan.companion.ome" '
                f'UUID="{uuids[count]}"/></OME>'
            )
        pixels = np.full(_SHAPE, 100 * (number + 1), np.uint16)
        tifffile.imwrite(file, pixels, description=own, metadata=None)
    return files


@pytest.mark.parametrize("axis", ["T", "Z"])
@pytest.mark.parametrize("companion", [False, True])
@pytest.mark.parametrize("opened", ["folder", "first", "last", "companion", "glob"])
def test_ome_set_is_opened_once(opened: str, companion: bool, axis: str, tmp_path: Path) -> None:
    files = write_ome_set(tmp_path, axis=axis, companion=companion)
    paths = {
        "folder": tmp_path,
        "first": files[0],
        "last": files[-1],
        "companion": tmp_path / "scan.companion.ome" if companion else files[1],
        "glob": tmp_path / "scan_*.tif",
    }
    stack = open_stack(str(paths[opened]))
    assert (stack.axes, stack.spacing.x_um) == (f"{axis.lower()}yx", 0.5)
    assert np.asarray(stack.data)[:, 3, 3].tolist() == [100, 200, 300, 400]


@pytest.mark.parametrize("companion", [False, True])
def test_missing_and_foreign_files_of_an_ome_set_are_named(companion: bool, tmp_path: Path) -> None:
    files = write_ome_set(tmp_path, companion=companion)
    write_files(tmp_path, ["other.tif"])
    with pytest.raises(FileError, match=r"not in the set of .* \(other.tif\)"):
        open_stack(tmp_path)
    files[2].unlink()
    with pytest.raises(FileError, match=r"1 are missing \(scan_T002.ome.tif\)"):
        open_stack(files[0])


def test_missing_companion_is_named(tmp_path: Path) -> None:
    files = write_ome_set(tmp_path, companion=True)
    (tmp_path / "scan.companion.ome").unlink()
    with pytest.raises(FileError, match="metadata in scan.companion.ome, which is missing"):
        open_stack(files[1])


@pytest.mark.parametrize("name", ["../secret.companion.ome", "/etc/scan.companion.ome"])
def test_companion_outside_of_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    files = write_ome_set(tmp_path, companion=True)
    text = str(tifffile.tiffcomment(files[0])).replace("scan.companion.ome", name)
    tifffile.tiffcomment(files[0], text.encode())
    with pytest.raises(FileError, match="not in its folder"):
        open_stack(files[0])
