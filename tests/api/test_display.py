"""HTML of stacks, sessions and runs."""

from __future__ import annotations

import base64
import re

import imageio.v3 as imageio
import numpy as np
import pytest

import napari_sam2 as ns
from napari_sam2.api import display
from napari_sam2.core.track import Track
from napari_sam2.testing.scenes import make_blank_scene, make_drifting_scene
from napari_sam2.testing.toy import ToyModel

_EVIL = "<script>alert('x')</script>"


def _render(shown: ns.Stack | ns.Session | ns.Run) -> str:
    """What a notebook shows of this; the name of the method is given by Jupyter."""
    return shown._repr_html_()


def _decode_picture(html: str) -> np.ndarray:
    (data,) = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return np.asarray(imageio.imread(base64.b64decode(data), extension=".png"))


def test_stack_shows_its_middle_plane_and_units() -> None:
    scene = make_drifting_scene()
    html = _render(scene.stack)
    np.testing.assert_array_equal(_decode_picture(html) > 0, scene.labels[5] > 0)
    assert "t 10 × y 64 × x 64, uint16" in html
    assert "t 60 s, y 0.5 µm, x 0.5 µm" in html


def test_names_from_files_are_escaped() -> None:
    stack = ns.Stack(make_drifting_scene().stack.data, "tyx", name=_EVIL, source=_EVIL)
    session = ns.Session(stack.as_video(), ToyModel())
    session.prompt(make_drifting_scene().make_click(1))
    session.describe(Track(1, category=_EVIL))
    for shown in (stack, session, session.propagate(progress=False)):
        html = _render(shown)
        assert "<script" not in html
        assert "&lt;script" in html


@pytest.mark.parametrize(
    "stack",
    [make_blank_scene().stack, ns.Stack(np.full((4, 4), np.nan, np.float32), "yx")],
    ids=["constant", "no numbers"],
)
def test_stack_without_contrast_is_shown_without_a_picture(stack: ns.Stack) -> None:
    assert "<img" not in _render(stack)


def test_session_and_run_show_coloured_objects_and_counts() -> None:
    scene = make_drifting_scene()
    session = ns.Session(scene.video, ToyModel())
    assert _decode_picture(_render(session)).shape == (64, 64, 3)
    session.prompt_many(scene.make_log().prompts)
    assert "3 for 3 objects" in _render(session)
    run = session.propagate(progress=False)
    picture = _decode_picture(_render(run)).astype(int)
    coloured = np.ptp(picture, axis=2) > 0
    np.testing.assert_array_equal(coloured, scene.labels[0] > 0)
    assert re.search(r">all</td><td[^>]*>3</td>", _render(run))
    assert "done" in _render(run)


def test_large_run_is_shown_without_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "_MAX_QUICK_PIXELS", 10)
    scene = make_drifting_scene()
    session = ns.Session(scene.video, ToyModel())
    session.prompt(scene.make_click(1))
    run = session.propagate(progress=False)
    assert "see run.counts" in _render(run)
    assert len(run.counts) == 11
    assert "see run.counts" not in _render(run)
