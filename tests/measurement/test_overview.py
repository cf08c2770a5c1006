"""The overview: what it shows, and that a failure leaves no file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from napari_sam2.core.errors import LabelsError, OutputError
from napari_sam2.core.stack import Spacing, Video
from napari_sam2.core.track import Track
from napari_sam2.measurement import count_objects, measure_objects
from napari_sam2.measurement.report.outlines import find_outlines, get_track_colour
from napari_sam2.measurement.report.overview import draw_overview
from napari_sam2.measurement.units import format_frame_position, format_length, round_length
from tests.measurement.conftest import MakeVideo, draw_square


def draw_figure(
    monkeypatch: pytest.MonkeyPatch, video: Video, labels: np.ndarray, path: Path, **kwargs: Any
) -> Figure:
    """The figure that `draw_overview` saved."""
    kept: list[Figure] = []
    save = Figure.savefig

    def keep_and_save(figure: Figure, *args: Any, **options: Any) -> None:
        kept.append(figure)
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", keep_and_save)
    table = measure_objects(video, labels, **kwargs)
    assert draw_overview(video, labels, table, count_objects(table, len(video)), path) == path
    return kept[0]


def get_texts(figure: Figure) -> list[str]:
    titles = [panel.get_title(loc="left") for panel in figure.axes]
    return titles + [text.get_text() for panel in figure.axes for text in panel.texts]


@pytest.fixture
def labels() -> np.ndarray:
    """Twenty frames, two objects on frames 3 to 17."""
    stack = np.zeros((20, 60, 80), np.uint16)
    for frame in range(3, 18):
        draw_square(draw_square(stack[frame], 7, 20, 2 * frame, 12), 300, 40, 50, 9)
    return stack


def test_overview_shows_frames_from_first_to_last_object(
    monkeypatch: pytest.MonkeyPatch, make_video: MakeVideo, labels: np.ndarray, tmp_path: Path
) -> None:
    figure = draw_figure(
        monkeypatch,
        make_video((labels * 100).astype(np.uint16), "zyx"),
        labels,
        tmp_path / "overview.png",
    )
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[0] == "frame 3 · z = 6 µm"
    assert titles[7] == "frame 17 · z = 34 µm"
    assert titles[8:] == ["objects per frame (2 objects in all)", "area per track (µm²)"]
    assert get_texts(figure).count("300") == 8
    assert "5 µm" in get_texts(figure)
    height, width = imread(tmp_path / "overview.png").shape[:2]
    assert width > 1500
    assert height > 800


def test_without_spacing_there_is_no_scale_bar(
    monkeypatch: pytest.MonkeyPatch, make_video: MakeVideo, labels: np.ndarray, tmp_path: Path
) -> None:
    figure = draw_figure(
        monkeypatch, make_video(labels, spacing=Spacing()), labels, tmp_path / "overview.png"
    )
    assert not any("µm" in text for text in get_texts(figure))
    assert "area per track (px)" in get_texts(figure)
    assert "frame 3" in get_texts(figure)


@pytest.mark.parametrize("frames", [1, 2, 5, 8, 9])
@pytest.mark.parametrize("shape", [(40, 40), (20, 120), (120, 20)], ids=str)
def test_any_number_of_frames_of_any_shape(
    make_video: MakeVideo, tmp_path: Path, frames: int, shape: tuple[int, int]
) -> None:
    labels = np.zeros((frames, *shape), np.uint8)
    labels[:, 3:9, 3:9] = 1
    video = make_video(labels)
    table = measure_objects(video, labels)
    draw_overview(video, labels, table, count_objects(table, frames), tmp_path / "overview.png")
    assert imread(tmp_path / "overview.png").std() > 0.1


def test_overview_without_objects(
    monkeypatch: pytest.MonkeyPatch, make_video: MakeVideo, tmp_path: Path
) -> None:
    empty = np.zeros((3, 20, 20), np.uint8)
    figure = draw_figure(monkeypatch, make_video(empty), empty, tmp_path / "overview.png")
    assert "objects per frame (0 objects in all)" in get_texts(figure)


def test_each_category_has_its_line(
    monkeypatch: pytest.MonkeyPatch, make_video: MakeVideo, labels: np.ndarray, tmp_path: Path
) -> None:
    figure = draw_figure(
        monkeypatch,
        make_video(labels),
        labels,
        tmp_path / "o.png",
        tracks=[Track(7, category="nucleus"), Track(300, category="bud")],
    )
    assert [line.get_label() for line in figure.axes[8].lines] == ["bud", "nucleus"]


def test_area_chart_shows_gaps(
    monkeypatch: pytest.MonkeyPatch, make_video: MakeVideo, labels: np.ndarray, tmp_path: Path
) -> None:
    labels[10] = 0
    figure = draw_figure(monkeypatch, make_video(labels), labels, tmp_path / "overview.png")
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[9].lines}
    expected = [144 * 0.125 if 3 <= frame <= 17 and frame != 10 else np.nan for frame in range(20)]
    np.testing.assert_array_equal(lines["7"], expected)


def test_ids_of_crowded_objects_are_not_drawn(
    monkeypatch: pytest.MonkeyPatch, make_video: MakeVideo, tmp_path: Path
) -> None:
    crowd = np.kron(np.arange(1, 197).reshape(14, 14), np.pad(np.ones((4, 4)), 1)).astype(
        np.uint16
    )[None]
    figure = draw_figure(monkeypatch, make_video(crowd), crowd, tmp_path / "overview.png")
    assert "100" not in get_texts(figure)
    outlines: Any = figure.axes[0].collections[1]
    assert len(outlines.get_segments()) == 196


def test_outline_runs_half_a_pixel_around_the_object() -> None:
    (outline,) = find_outlines(draw_square(np.zeros((20, 20), np.uint32), 70000, 5, 8, 4))
    assert outline.track == 70000
    (line,) = outline.lines
    np.testing.assert_array_equal([line.min(axis=0), line.max(axis=0)], [[7.5, 4.5], [11.5, 8.5]])


def test_outline_of_an_object_at_the_edge_and_with_a_hole_is_closed() -> None:
    plane = draw_square(draw_square(np.zeros((20, 20), np.uint8), 1, 0, 0, 9), 0, 3, 3, 2)
    (outline,) = find_outlines(plane)
    assert len(outline.lines) == 2
    assert all((line[0] == line[-1]).all() for line in outline.lines)


def test_colours_are_bright_and_those_of_neighbouring_ids_differ() -> None:
    colours = np.array([get_track_colour(track) for track in range(1, 200)])
    assert colours.min() >= 0
    assert colours.max() <= 1
    assert (np.abs(np.diff(colours, axis=0)).max(axis=1) > 0.2).all()
    luminance = colours @ (0.2126, 0.7152, 0.0722)
    assert (luminance > 0.3).all(), "visible on black, blue as well"


def test_failed_overview_leaves_no_file(
    make_video: MakeVideo, labels: np.ndarray, tmp_path: Path
) -> None:
    video = make_video(labels)
    table = measure_objects(video, labels)
    with pytest.raises(OutputError, match="nowhere"):
        draw_overview(
            video, labels, table, count_objects(table, 20), tmp_path / "nowhere" / "overview.png"
        )
    assert list(tmp_path.iterdir()) == []


def test_older_overview_is_kept_if_drawing_fails(
    monkeypatch: pytest.MonkeyPatch, make_video: MakeVideo, labels: np.ndarray, tmp_path: Path
) -> None:
    video, path = make_video(labels), tmp_path / "overview.png"
    table = measure_objects(video, labels)
    path.write_bytes(b"old")

    def full(figure: Figure, file: Path, **options: Any) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(OutputError, match="No space left"):
        draw_overview(video, labels, table, count_objects(table, 20), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_overview_of_labels_of_another_shape_raises(
    make_video: MakeVideo, labels: np.ndarray, tmp_path: Path
) -> None:
    table = measure_objects(make_video(labels), labels)
    with pytest.raises(LabelsError):
        draw_overview(
            make_video(labels),
            labels[:, :10],
            table,
            count_objects(table, 20),
            tmp_path / "overview.png",
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("largest", "expected"), [(16, 10), (10, 10), (0.49, 0.2), (99, 50), (3, 2), (1000, 1000)]
)
def test_scale_bar_is_a_round_length(largest: float, expected: Any) -> None:
    assert round_length(largest) == pytest.approx(expected)


@pytest.mark.parametrize(("um", "expected"), [(0.5, "500 nm"), (20, "20 µm"), (2000, "2 mm")])
def test_lengths_have_a_fitting_unit(um: float, expected: Any) -> None:
    assert format_length(um) == expected


@pytest.mark.parametrize(
    ("axes", "interval", "expected"),
    [
        ("tyx", 2, "frame 9 · 18 s"),
        ("tyx", 30, "frame 9 · 4.5 min"),
        ("tyx", 7200, "frame 9 · 18 h"),
        ("tyx", None, "frame 9"),
        ("zyx", 5, "frame 9 · z = 4.5 µm"),
    ],
    ids=["seconds", "minutes", "hours", "unknown", "z"],
)
def test_position_of_a_frame_has_a_fitting_unit(
    make_video: MakeVideo, axes: str, interval: float | None, expected: Any
) -> None:
    spacing = Spacing(z_um=0.5, t_s=interval)
    assert (
        format_frame_position(make_video(np.zeros((10, 4, 4), np.uint8), axes, spacing=spacing), 9)
        == expected
    )
