"""What image layers are read as, and where positions lie in them. Layers without a window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile

from napari_sam2.core.errors import AxesError, LabelsError, PromptError
from napari_sam2.core.prompt import BoxPrompt, MaskPrompt, PointPrompt
from napari_sam2.core.stack import Spacing

napari_layers = pytest.importorskip("napari.layers", reason="napari is not installed")

from napari_sam2.gui.app.view import SessionKey
from napari_sam2.gui.layers.layer_axes import (
    compute_plane_index,
    get_layer_geometry,
    locate,
    make_blank_labels,
    make_image_selection,
    make_stack,
    read_layer_axes,
)
from napari_sam2.gui.layers.layer_prompts import read_layer_prompts
from napari_sam2.gui.layers.samples import make_sample_layers


def _image(shape: tuple[int, ...], **options: Any) -> Any:
    data = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    return napari_layers.Image(data, **options)


@pytest.mark.parametrize(
    ("shape", "options", "letters", "walkable", "axes"),
    [
        ((5, 8, 9), {}, "zyx", ("z", "t"), "zyx"),
        ((5, 8, 9), {"axis_labels": ("t", "y", "x")}, "tyx", ("t",), "tyx"),
        ((5, 8, 9), {"axis_labels": ("Time", "Y", "X")}, "tyx", ("t",), "tyx"),
        ((5, 8, 9), {"units": ("s", "um", "um")}, "tyx", ("t",), "tyx"),
        ((5, 8, 9), {"units": ("nm", "um", "um")}, "zyx", ("z",), "zyx"),
        ((3, 5, 8, 9), {}, "tzyx", ("t", "z"), "tzyx"),
        ((3, 5, 8, 9), {"axis_labels": ("z", "c", "y", "x")}, "zcyx", ("z",), "czyx"),
        ((3, 5, 8, 9), {"axis_labels": ("c", "-3", "y", "x")}, "czyx", ("z", "t"), "czyx"),
        ((2, 3, 4, 8, 9), {}, "tczyx", ("t", "z"), "tczyx"),
        ((8, 9), {}, "yx", ("t",), "yx"),
        ((5, 8, 9, 3), {"rgb": True, "axis_labels": ("z", "y", "x")}, "zyx", ("z",), "czyx"),
        ((5, 8, 9, 4), {"rgb": True, "axis_labels": ("t", "y", "x")}, "tyx", ("t",), "tcyx"),
    ],
    ids=[
        "no names", "labels", "words", "seconds", "nanometres", "four", "channels last",
        "one unnamed", "five", "a picture", "RGB", "RGBA",
    ],
)  # fmt: skip
def test_axes_are_read_from_labels_and_units(
    shape: tuple[int, ...],
    options: dict[str, Any],
    letters: str,
    walkable: tuple[str, ...],
    axes: str,
) -> None:
    layer = _image(shape, **options)
    reading = read_layer_axes(layer)
    assert (reading.letters, reading.propagation_axes) == (letters, walkable)
    stack = make_stack(layer, reading)
    assert stack.axes == axes
    assert stack.sizes == {**reading.sizes, **({"c": 3} if options.get("rgb") else {})}


def test_an_unnamed_axis_may_be_time() -> None:
    layer = _image((5, 8, 9))
    choice = make_image_selection(layer, along="t")
    assert (choice.stack.axes, choice.along, choice.length) == ("tyx", "t", 5)


@pytest.mark.parametrize(
    ("shape", "options", "said"),
    [
        ((2, 2, 2, 2, 4, 4), {}, "4 axes without a name"),
        ((2, 3, 4, 4), {"axis_labels": ("t", "time", "y", "x")}, "have the same name"),
    ],
    ids=["six", "twice"],
)
def test_unsupported_axes_are_an_error(
    shape: tuple[int, ...], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(AxesError, match=said):
        read_layer_axes(_image(shape, **options))


def test_planes_are_those_of_the_layer() -> None:
    layer = _image((3, 2, 8, 9), axis_labels=("z", "c", "y", "x"))
    stack = make_stack(layer, read_layer_axes(layer))
    np.testing.assert_array_equal(stack.read_plane({"c": 1, "z": 2}), layer.data[2, 1])
    assert np.shares_memory(stack.data, layer.data)


def test_dask_is_not_computed_and_a_pyramid_is_read_at_its_finest_level() -> None:
    lazy = da.zeros((4, 3, 64, 64), chunks=(1, 1, 64, 64), dtype=np.uint8)
    layer = napari_layers.Image(lazy, axis_labels=("z", "c", "y", "x"))
    assert isinstance(make_stack(layer, read_layer_axes(layer)).data, da.Array)
    pyramid = napari_layers.Image([np.zeros((4, 64, 64)), np.zeros((4, 32, 32))], multiscale=True)
    assert read_layer_axes(pyramid).shape == (4, 64, 64)
    assert make_stack(pyramid, read_layer_axes(pyramid)).data.shape == (4, 64, 64)


@pytest.mark.parametrize(
    ("options", "spacing"),
    [
        ({"scale": (2, 0.5, 0.25), "units": ("um", "um", "um")}, Spacing(2.0, 0.5, 0.25)),
        ({"scale": (2, 500, 250), "units": ("um", "nm", "nm")}, Spacing(2.0, 0.5, 0.25)),
        ({"scale": (2, 1, 1), "units": ("min", "pixel", "pixel")}, Spacing(t_s=120.0)),
        ({"scale": (2, 0.5, 0.25)}, Spacing()),
    ],
    ids=["micrometres", "mixed", "minutes", "no units: never guessed"],
)
def test_spacing_comes_from_scale_and_units(options: dict[str, Any], spacing: Spacing) -> None:
    assert read_layer_axes(_image((5, 8, 9), **options)).spacing == spacing


def test_missing_axes_and_spacing_are_read_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "lapse.ome.tif"
    data = np.zeros((4, 8, 9), dtype=np.uint16)
    tifffile.imwrite(
        path,
        data,
        metadata={"axes": "TYX", "PhysicalSizeX": 0.3, "PhysicalSizeY": 0.3, "TimeIncrement": 60},
        ome=True,
    )
    layer = napari_layers.Image(data)
    layer._source = layer.source.model_copy(update={"path": str(path)})
    reading = read_layer_axes(layer)
    assert (reading.letters, reading.guessed_axes) == ("tyx", "")
    assert reading.spacing == Spacing(y_um=0.3, x_um=0.3, t_s=60.0)


def test_labels_of_all_channels_are_one_array_and_writable() -> None:
    reading = read_layer_axes(_image((3, 2, 8, 9), axis_labels=("z", "c", "y", "x")))
    labels = make_blank_labels(reading)
    labels[compute_plane_index(reading, {"z": 1})] = 7
    assert labels.shape == (3, 2, 8, 9)
    assert (labels[1] == 7).all()
    assert not labels[[0, 2]].any()


@pytest.mark.parametrize(
    "options",
    [
        {"scale": (2, 0.5, 0.25), "translate": (3, 4, 5)},
        {"rotate": 40},
        {"affine": [[2, 0, 0, 1], [0, 1, 0.3, 2], [0, 0, 1, 3], [0, 0, 0, 1]]},
    ],
    ids=["scale", "rotation", "affine"],
)
def test_a_position_is_found_again_and_other_layers_lie_in_the_same_place(
    options: dict[str, Any],
) -> None:
    layer = _image((5, 8, 9), **options)
    world = layer.data_to_world((3, 4.25, 6.5))
    where, yx = locate(layer, read_layer_axes(layer), world)
    assert where == {"z": 3}
    np.testing.assert_allclose(yx, (4.25, 6.5))
    other = napari_layers.Points(ndim=3, **get_layer_geometry(layer))
    np.testing.assert_allclose(other.world_to_data(world), (3, 4.25, 6.5))


def test_a_position_beyond_the_ends_is_on_the_last_frame() -> None:
    layer = _image((5, 8, 9))
    assert locate(layer, read_layer_axes(layer), (99, 1, 1))[0] == {"z": 4}
    assert locate(layer, read_layer_axes(layer), (0, -3, 2, 1, 1))[0] == {
        "z": 2
    }  # a viewer of more dimensions


def test_layers_of_others_become_prompts() -> None:
    image = _image((5, 8, 9), scale=(1, 2, 2))
    reading, place = read_layer_axes(image), SessionKey(make_image_selection(image))
    labels = np.zeros((5, 8, 9), dtype=np.int32)
    labels[2, 1:3, 1:4], labels[2, 5:7, 5:8] = 3, 9
    masks = read_layer_prompts(
        napari_layers.Labels(labels, scale=(1, 2, 2)), image, reading, place, 2
    )
    assert masks == [MaskPrompt(2, 3, labels[2] == 3), MaskPrompt(2, 9, labels[2] == 9)]
    assert read_layer_prompts(napari_layers.Labels(labels[2]), image, reading, place, 4)[
        0
    ] == MaskPrompt(4, 3, labels[2] == 3)
    corners = np.array(
        [[3, 2, 4], [3, 2, 12], [3, 10, 12], [3, 10, 4]]
    )  # in a layer without scale: world units
    boxes = read_layer_prompts(napari_layers.Shapes([corners]), image, reading, place, 0)
    assert boxes == [BoxPrompt(3, 1, (1, 2, 5, 6))]
    clicks = read_layer_prompts(
        napari_layers.Points([(1, 4, 6), (2, 2, 2)]), image, reading, place, 0
    )
    assert clicks == [PointPrompt(1, 1, [(2, 3)], [True]), PointPrompt(2, 2, [(1, 1)], [True])]


def test_layers_that_do_not_fit_are_an_error() -> None:
    image = _image((5, 8, 9))
    reading, place = read_layer_axes(image), SessionKey(make_image_selection(image))
    with pytest.raises(LabelsError, match=r"expected \(5, 8, 9\), or \(8, 9\) for one plane"):
        read_layer_prompts(
            napari_layers.Labels(np.ones((3, 4, 4), dtype=int)), image, reading, place, 0
        )
    with pytest.raises(PromptError, match="has no prompts in this image"):
        read_layer_prompts(napari_layers.Points(ndim=3), image, reading, place, 0)


@pytest.mark.parametrize(
    ("name", "objects", "axes"), [("nuclei_z", 14, "zyx"), ("migration_t", 15, "tyx")]
)
def test_samples_open_with_scale_units_and_boxes(name: str, objects: int, axes: str) -> None:
    image, boxes = (napari_layers.Layer.create(*each) for each in make_sample_layers(name))
    reading = read_layer_axes(image)
    assert (reading.letters, reading.guessed_axes) == (axes, "")
    assert reading.spacing == (Spacing(0.29, 0.26, 0.26) if name == "nuclei_z" else Spacing())
    place = SessionKey(make_image_selection(image))
    assert len(read_layer_prompts(boxes, image, reading, place, 0)) == objects
