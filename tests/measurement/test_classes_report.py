"""Categories by rules and by examples, lineage trees, and the report of a run."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from napari_sam2.core.contrast import Contrast
from napari_sam2.core.errors import MeasurementError
from napari_sam2.core.stack import Spacing, Stack, Video
from napari_sam2.core.track import Track
from napari_sam2.measurement import count_objects, measure_objects, measure_tracks
from napari_sam2.measurement.features.classes import (
    CategoryRule,
    classify_by_examples,
    classify_by_rules,
    set_categories,
)
from napari_sam2.measurement.report.lineage_tree import draw_lineage
from napari_sam2.measurement.report.run_report import render_run_report
from napari_sam2.testing.scenes import make_dividing_scene
from tests.measurement.conftest import MakeVideo, draw_square


@pytest.fixture
def table(make_video: MakeVideo) -> pd.DataFrame:
    """Twelve squares on two frames: odd tracks are large and dim, even tracks small and bright."""
    labels, pixels = np.zeros((2, 40, 260), np.uint8), np.full((2, 40, 260), 100, np.uint16)
    for track in range(1, 13):
        draw_square(labels[0], track, 10, 20 * track - 10, 10 if track % 2 else 5)
        pixels[0][labels[0] == track] = 500 if track % 2 else 3000
    labels[1], pixels[1] = labels[0], pixels[0]
    return measure_objects(make_video(pixels), labels)


def test_first_matching_rule_is_the_category(table: pd.DataFrame) -> None:
    rules = [
        CategoryRule.of("bright", "mean_c0 > 1e3"),
        CategoryRule.of("large", "area_px >= 100 and mean_c0 < 1e3"),
        CategoryRule.of("any", "area_px > 0"),
    ]
    found = classify_by_rules(table, rules)
    assert [found[track] for track in (1, 2, 3, 4)] == ["large", "bright", "large", "bright"]


def test_track_without_a_matching_rule_keeps_its_category(table: pd.DataFrame) -> None:
    named = table.assign(category=pd.array(["cell"] * len(table), dtype="string"))
    assert set(classify_by_rules(named, [CategoryRule.of("huge", "area_px > 9999")]).values()) == {
        "cell"
    }


@pytest.mark.parametrize(
    "text", ["", "area_px", "area_px > big", "__import__('os')", "area_px > 1 or mean_c0 > 2"]
)
def test_invalid_rule_raises(text: str) -> None:
    with pytest.raises(MeasurementError, match="expected conditions like"):
        CategoryRule.of("x", text)


def test_rule_on_an_unknown_feature_raises(table: pd.DataFrame) -> None:
    with pytest.raises(MeasurementError, match="uses .'colour'"):
        classify_by_rules(table, [CategoryRule.of("x", "colour > 1")])


def test_classifier_learns_from_a_few_examples(table: pd.DataFrame) -> None:
    pytest.importorskip("sklearn")
    found = classify_by_examples(table, {1: "large", 3: "large", 2: "small", 4: "small"})
    assert found == {track: "large" if track % 2 else "small" for track in range(1, 13)}
    assert count_objects(set_categories(table, found), 2)["n"].tolist()[-3:] == [6, 6, 12]


@pytest.mark.parametrize(
    "examples", [{1: "a"}, {1: "a", 99: "b"}], ids=["one category", "no such track"]
)
def test_insufficient_examples_raise(table: pd.DataFrame, examples: dict[int, str]) -> None:
    with pytest.raises(MeasurementError, match="at least two categories"):
        classify_by_examples(table, examples)


def make_results(
    name: str = "dividing",
) -> tuple[Video, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    scene = make_dividing_scene()
    stack = Stack(scene.stack.data, "tyx", Spacing(y_um=0.5, x_um=0.5, t_s=60), name=name)
    video, family = (
        Video.of(stack),
        [Track(child, parent=parent) for child, parent in scene.parents.items()],
    )
    rows = measure_objects(video, scene.labels, tracks=family)
    return video, rows, measure_tracks(rows, video, family), count_objects(rows, len(video))


class Page(HTMLParser):
    """Tags, embedded figures and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.figures = 0
        self.words: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        source = dict(attrs).get("src") or ""
        self.figures += tag == "img" and source.startswith("data:image/png;base64,")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_report_is_one_file_with_embedded_figures() -> None:
    text = render_run_report(
        *make_results(),
        {"model": {"name": "nano", "sha256": "ab" * 32}, "notes": ["channel 0 chosen"]},
    )
    page = Page(text)
    assert page.figures == 4, "counts, size, intensity, lineage"
    assert "script" not in page.tags and not re.search(r"(src|href)=.?http", text)
    assert "channel 0 chosen" in page.words and "division (origin)" in page.words


def test_names_in_the_report_are_escaped() -> None:
    text = render_run_report(*make_results('<script>alert("x")</script> & co'), {})
    assert "<script" not in text and "&lt;script&gt;" in text


def test_report_without_objects(make_video: MakeVideo) -> None:
    video = Video.of(Stack(np.zeros((2, 9, 9), np.uint8), "tyx"), contrast=Contrast(0, 1))
    rows = measure_objects(video, np.zeros((2, 9, 9), np.uint8))
    page = Page(
        render_run_report(video, rows, measure_tracks(rows, video), count_objects(rows, 2), {})
    )
    assert page.figures == 1 and "0" in page.words


@pytest.mark.parametrize(("families_only", "lines"), [(False, 3), (True, 3)])
def test_lineage_has_a_line_for_each_track(families_only: bool, lines: int) -> None:
    axes = Figure().subplots()
    assert draw_lineage(axes, make_results()[2], families_only=families_only) == lines
    rows = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert rows["2"] < rows["1"] < rows["3"], "the parent is between its daughters"
