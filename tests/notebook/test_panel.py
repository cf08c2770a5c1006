"""The panel without a browser: traits set from Python and messages as the browser sends them."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import traitlets
from PIL import Image

import napari_sam2 as ns
from napari_sam2.api.display import render_session_html
from napari_sam2.core.errors import (
    AxesError,
    DeviceError,
    LabelsError,
    ModelError,
    PlanError,
    PromptError,
)
from napari_sam2.core.inference_options import DEFAULT_ATTENTION, InferenceOptions
from napari_sam2.core.stack import Spacing, Stack, Video
from napari_sam2.core.track import PRESENCE_CODES, Presence, Track
from napari_sam2.notebook import NotebookPanel, annotate
from napari_sam2.notebook.frame_encoder import MAX_PIXELS, FrameEncoder
from napari_sam2.notebook.panel import read_script
from napari_sam2.testing.scenes import Scene, make_drifting_scene, make_two_channel_scene
from napari_sam2.testing.toy import ToyModel
from tests.propagation.test_evidence import FakeEvidence


def _send(panel: NotebookPanel, **content: Any) -> None:
    panel.handle_message(content)


def _click(
    panel: NotebookPanel,
    scene: Scene,
    track: int,
    frame: int = 0,
    *,
    positive: bool = True,
    **more: Any,
) -> None:
    (yx,) = scene.make_click(track, frame).yx
    _send(
        panel,
        **{
            "kind": "point",
            "frame": frame,
            "track": track,
            "yx": list(yx),
            "positive": positive,
            **more,
        },
    )


def _read_labels(panel: NotebookPanel) -> np.ndarray:
    data = panel.label_data
    return np.frombuffer(zlib.decompress(data["bytes"]), f"<u{data['bits'] // 8}").reshape(
        data["shape"]
    )


def _propagate(panel: NotebookPanel) -> None:
    _send(panel, kind="propagate")
    assert panel.wait(30)
    assert not panel.propagating


def test_a_click_shows_the_mask_at_once(panel: NotebookPanel, scene: Scene) -> None:
    _click(panel, scene, 2)
    np.testing.assert_array_equal(_read_labels(panel) == 2, scene.mask(2, 0))
    assert panel.track == 2
    assert panel.prompt_marks[0]["points"] == [[*scene.make_click(2, 0).yx[0], True]]
    assert panel.count_rows[-1] == {"category": "all", "frame": 1, "stack": 1}


def test_a_box_is_a_prompt_too(panel: NotebookPanel, scene: Scene) -> None:
    rows, columns = np.nonzero(scene.mask(1, 0))
    box = [float(rows.min()), float(columns.min()), float(rows.max()), float(columns.max())]
    _send(panel, kind="box", frame=0, track=1, box=box)
    np.testing.assert_array_equal(_read_labels(panel) == 1, scene.mask(1, 0))
    assert panel.prompt_marks == [{"track": 1, "points": [], "box": box}]


def test_propagation_in_a_thread_fills_labels_and_tables(
    panel: NotebookPanel, scene: Scene
) -> None:
    for track in scene.tracks:
        _click(panel, scene, track)
    _propagate(panel)
    np.testing.assert_array_equal(panel.labels.compute(), scene.labels)
    assert panel.counts.iloc[-1].to_list() == ["all", "all", len(scene.tracks)]
    assert panel.count_rows[-1]["stack"] == len(scene.tracks)
    assert panel.progress == {"propagating": False, "position": 5, "total": 5}
    codes = np.frombuffer(zlib.decompress(panel.lane_data["bytes"]), np.uint8).reshape(
        len(scene.tracks), 6
    )
    prompted, tracked = PRESENCE_CODES[Presence.PROMPTED], PRESENCE_CODES[Presence.TRACKED]
    assert codes.tolist() == [[prompted, *[tracked] * 5]] * len(scene.tracks)
    assert panel.message == "Propagated through the stack."
    assert set(panel.objects["track"]) == set(panel.tracks["track"]) == set(scene.tracks)


def test_cancel_keeps_the_finished_frames(scene: Scene) -> None:
    class Slow(ToyModel):
        stop = False

        def encode_memory(self, *given: Any) -> Any:
            if self.stop:
                panel.cancel()
            return super().encode_memory(*given)

    model = Slow()
    panel = NotebookPanel(ns.Session(scene.video, model))
    _click(panel, scene, 1)
    model.stop = True
    _propagate(panel)
    assert panel.message == "Stopped. Press Propagate to continue."
    assert 0 < panel.progress["position"] < panel.progress["total"]
    model.stop = False
    _propagate(panel)
    np.testing.assert_array_equal(panel.labels.compute() == 1, scene.labels == 1)


def test_a_click_during_propagation_is_refused_with_a_message(
    panel: NotebookPanel, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NotebookPanel, "propagating", True)
    _click(panel, scene, 1)
    assert panel.status == {
        "text": "objects are being propagated: wait until the end, or cancel first",
        "error": True,
    }
    with pytest.raises(PlanError, match="cancel first"):
        panel.prompt(scene.make_click(1))
    assert not panel.session.log


def test_an_error_in_the_thread_is_shown(scene: Scene) -> None:
    class Broken(ToyModel):
        def encode_memory(self, *given: Any) -> Any:
            raise RuntimeError("out of memory")

    panel = NotebookPanel(ns.Session(scene.video, Broken()))
    _click(panel, scene, 1)
    _propagate(panel)
    assert panel.status == {"text": "RuntimeError: out of memory", "error": True}


def test_undo_removes_the_last_click(panel: NotebookPanel, scene: Scene) -> None:
    _click(panel, scene, 1)
    _click(panel, scene, 2)
    _send(panel, kind="undo")
    assert set(np.unique(_read_labels(panel))) == {0, 1}
    assert panel.undo()
    assert not panel.undo()


def test_categories_are_counted_separately(panel: NotebookPanel, scene: Scene) -> None:
    for track in scene.tracks:
        _click(panel, scene, track)
    _send(panel, kind="describe", track=1, category="large")
    _send(panel, kind="describe", track=1, name="<b>bold</b>")
    assert panel.session.log.get_track(1) == Track(1, "<b>bold</b>", "large")
    assert panel.count_rows == [
        {"category": "–", "frame": 2, "stack": 2},
        {"category": "large", "frame": 1, "stack": 1},
        {"category": "all", "frame": 3, "stack": 3},
    ]


def test_an_accepted_frame_is_locked_until_it_is_released(
    panel: NotebookPanel, scene: Scene
) -> None:
    _click(panel, scene, 1)
    _send(panel, kind="lock", track=1, frame=0)
    assert panel.session.log.is_locked(1, 0)
    _send(panel, kind="lock", track=1, frame=0)
    assert not panel.session.log.is_locked(1, 0)
    _send(panel, kind="lock", track=3, frame=0)
    assert panel.status["error"] and "nothing to lock" in panel.message


def test_each_click_is_a_new_object_if_single_is_set(panel: NotebookPanel, scene: Scene) -> None:
    panel.single = True
    for track in (1, 2, 3):
        _send(
            panel,
            kind="point",
            frame=0,
            track=1,
            yx=list(scene.make_click(track, 0).yx[0]),
            positive=True,
        )
    assert panel.session.log.track_ids == (1, 2, 3)
    _click(panel, scene, 1, positive=False)
    assert panel.session.log.track_ids == (1, 2, 3), (
        "a negative click is a prompt of the selected object"
    )


def test_a_new_object_gets_the_next_number(panel: NotebookPanel, scene: Scene) -> None:
    _click(panel, scene, 1)
    _send(panel, kind="new")
    assert panel.track == 2
    assert [each["id"] for each in panel.object_rows] == [1, 2]


def test_labels_set_from_python_become_objects(panel: NotebookPanel, scene: Scene) -> None:
    panel.labels = scene.labels
    np.testing.assert_array_equal(panel.labels.compute(), scene.labels)
    assert panel.session.log.track_ids == scene.tracks
    with pytest.raises(LabelsError, match=r"expected whole numbers \(6, 64, 64\)"):
        panel.labels = scene.labels[:, :10]


def test_one_label_plane_belongs_to_the_shown_frame(panel: NotebookPanel, scene: Scene) -> None:
    panel.frame = 3
    panel.labels = scene.labels[3]
    assert {prompt.frame for prompt in panel.session.log.prompts} == {3}
    np.testing.assert_array_equal(_read_labels(panel), scene.labels[3])


def test_a_session_set_from_python_is_shown(panel: NotebookPanel, scene: Scene) -> None:
    other = ns.Session(make_two_channel_scene(frames=4).video, ToyModel())
    other.prompt(make_two_channel_scene(frames=4).make_click(3, 1))
    panel.session = other
    panel.frame = 1
    assert (panel.session, panel.track, panel.video_info["frames"]) == (other, 4, 4)
    assert set(np.unique(_read_labels(panel))) == {0, 3}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("frame", 6, "expected 0 to 5"),
        ("frame", -1, "expected 0 to 5"),
        ("channel", 1, "expected 0 to 0"),
        ("track", 0, "a number from 1"),
        ("contrast", (5.0, 5.0), "the lower first"),
    ],
)
def test_an_invalid_trait_is_refused(
    panel: NotebookPanel, name: str, value: Any, message: str
) -> None:
    before = getattr(panel, name)
    with pytest.raises(traitlets.TraitError, match=message):
        setattr(panel, name, value)
    assert getattr(panel, name) == before


def test_a_prompt_outside_the_frame_is_shown_in_the_panel_and_raised_in_python(
    panel: NotebookPanel,
) -> None:
    _send(panel, kind="point", frame=0, track=1, yx=[500, 1], positive=True)
    assert panel.status["error"] and "outside the frame" in panel.message
    with pytest.raises(PromptError, match="outside the frame"):
        panel.prompt(ns.PointPrompt(0, 1, [(500, 1)], [True]))


def test_contrast_and_channel_change_the_image_but_not_the_input_of_the_model() -> None:
    scene = make_two_channel_scene()
    panel = NotebookPanel(ns.Session(scene.video, ToyModel()))
    identity, first = panel.session.video.identity, panel.image_data["bytes"]
    panel.channel = 1
    grey = _read_image(panel)
    raw = scene.video.read_raw_plane(panel.frame, 1).astype(float)
    low, high = panel.contrast
    np.testing.assert_allclose(grey, np.clip((raw - low) / (high - low), 0, 1) * 255, atol=0.51)
    panel.contrast = (0.0, 60_000.0)
    assert _read_image(panel).max() < grey.max()
    assert panel.image_data["bytes"] != first
    assert panel.session.video.identity == identity


def test_each_position_of_another_axis_has_its_own_session() -> None:
    scene = make_drifting_scene(frames=4)
    stack = Stack(np.stack([scene.stack.data, scene.stack.data[:, ::-1]], axis=1), "tzyx")
    panel = annotate(stack, along="t", model=ToyModel(), at={"z": 0})
    first = panel.session
    panel.frame = 0
    _click(panel, scene, 1)
    panel.at = {"z": 1}
    assert panel.session is not first and not panel.session.log
    assert panel.video_info["other_axes"] == [{"axis": "z", "length": 2}]
    np.testing.assert_array_equal(panel.session.video.read_raw_plane(0), stack.data[0, 1])
    panel.at = {"z": 0}
    assert panel.session is first
    with pytest.raises(AxesError):
        panel.session = ns.Session(stack.as_video("t", z=7), ToyModel())
    panel.at = {"z": 9}
    assert panel.at == {"z": 0} and panel.status["error"]


def test_large_frames_are_shrunk_and_keep_their_positions() -> None:
    height, width = 2 * MAX_PIXELS - 9, 2 * MAX_PIXELS - 1
    rng = np.random.default_rng(0)
    stack = Stack(rng.integers(0, 60_000, (1, height, width)).astype(np.uint16), "tyx")
    encoder = FrameEncoder(stack.as_video())
    image, contrast = encoder.encode_image(0, 0, (0.0, 60_000.0)), encoder.get_contrast(0)
    assert (encoder.shrink, image["mime"]) == (2, "image/jpeg")
    assert contrast == encoder.video.contrast
    shown = Image.open(io.BytesIO(image["bytes"]))
    assert shown.size == (-(-width // 2), -(-height // 2))
    plane = np.zeros((height, width), np.uint16)
    plane[300:360, 600:660] = 70
    sent = encoder.encode_labels(0, plane)
    labels = np.frombuffer(zlib.decompress(sent["bytes"]), "<u2").reshape(sent["shape"])
    rows, columns = np.nonzero(labels)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (150, 179, 300, 329)
    assert len(sent["bytes"]) + len(image["bytes"]) < plane.nbytes / 8


def test_the_script_is_one_module_that_writes_names_as_text_only() -> None:
    source = read_script()
    assert source.count("export default") == 1
    for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "import "):
        assert name not in source


def test_annotate_passes_its_options_to_load_model(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(
        "napari_sam2.notebook.panel.load_model",
        lambda name, **options: calls.append((name, options)) or ToyModel(),
    )
    annotate(make_drifting_scene().video, model="tiny", device="cpu", attention="local")
    annotate(make_drifting_scene().video, model="tiny", precision="bfloat16", windows="tiles")
    assert calls == [
        (
            "tiny",
            {"device": "cpu", "attention": "local", "precision": "float32", "windows": "whole"},
        ),
        (
            "tiny",
            {
                "device": "auto",
                "attention": DEFAULT_ATTENTION,
                "precision": "bfloat16",
                "windows": "tiles",
            },
        ),
    ]


def test_annotate_computes_in_the_given_precision_and_the_panel_shows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the embedded model, on a processor that reports bfloat16 instructions."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    scene = make_drifting_scene(count=2, frames=3, shape=(96, 96))
    planes = {}
    for precision, title in (("float32", "nano"), ("bfloat16", "nano, precision bfloat16")):
        panel = annotate(scene.video, device="cpu", precision=precision)  # type: ignore[arg-type]
        panel.prompt(scene.make_click(1, 0))
        planes[precision] = panel.session.compute_label_plane(0) > 0
        assert panel.video_info["model_note"] == f"{scene.video.description} · {title}"
        assert f"{title} on cpu" in render_session_html(panel.session)
    first, second = planes.values()
    assert (first & second).sum() > 0.9 * (first | second).sum() > 0
    with pytest.raises(
        DeviceError,
        match="'float16': device 'cpu' computes in float32, bfloat16; choose one of these",
    ):
        annotate(scene.video, device="cpu", precision="float16")


def test_annotate_opens_files(tmp_path: Path) -> None:
    path = tmp_path / "cells.npy"
    np.save(path, make_drifting_scene().stack.data)
    with pytest.raises(AxesError, match="TYX"):
        annotate(path, model=ToyModel())
    panel = annotate(ns.open_stack(path, axes="TYX"), model=ToyModel())
    assert panel.video_info["name"] == "cells"
    assert annotate(panel.session).session is panel.session
    assert annotate(panel.session.video, model=ToyModel()).session.video is panel.session.video


def _read_image(panel: NotebookPanel) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(panel.image_data["bytes"])))


@pytest.mark.parametrize(
    ("parts", "used"),
    [
        ("none", ()),
        ("all", ("click", "presence", "mask", "review")),
        ("mask, click", ("click", "mask")),
    ],
)
def test_evidence_is_made_for_the_video_with_the_given_parts(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, parts: str, used: tuple[str, ...]
) -> None:
    devices: list[str] = []

    def make(video: Video, given: str, options: InferenceOptions) -> FakeEvidence | None:
        assert video.identity == scene.video.identity and given == parts
        devices.append(options.device)
        return None if given == "none" else FakeEvidence(np.array(scene.labels))

    monkeypatch.setattr("napari_sam2.notebook.panel.make_evidence", make)
    model = ToyModel()
    model.device = "tcp://host:1 (cuda)"  # a remote one: the detector is here
    with annotate(scene.video, model=model, evidence=parts).session as session:
        assert devices == ["auto"]
        assert session.settings.evidence_parts == used
        assert (session.evidence is None) == (not used)


@pytest.mark.parametrize("parts", ["clicks", "", "all,none"])
def test_unknown_evidence_is_one_clear_error(scene: Scene, parts: str) -> None:
    with pytest.raises(ModelError, match="expected 'all', 'none'"):
        annotate(scene.video, model=ToyModel(), evidence=parts)


def test_a_nucleus_ends_in_z_with_the_real_detector(shared_folder: Path) -> None:
    """One click, propagated with the embedded model; without evidence it fills the stack."""
    folder = shared_folder / "data" / "zstack_and_2d_stardist"
    image, truth = (tifffile.imread(folder / name) for name in ("img3d.tif", "mask3d.tif"))
    nucleus = truth == 23
    frame = int(nucleus.sum(axis=(1, 2)).argmax())
    yx = [float(side.mean()) for side in np.nonzero(nucleus[frame])]
    stack = Stack(image, "zyx", spacing=Spacing(z_um=2.0, y_um=1.0, x_um=1.0))
    panel = annotate(stack, device="cpu", evidence="all")
    with panel.session as session:
        assert session.evidence is not None and session.evidence.name.startswith("learned ")
        _send(panel, kind="point", frame=frame, track=1, yx=yx, positive=True)
        _send(panel, kind="propagate")
        assert panel.wait(240)
        shown = np.array([session.compute_label_plane(n).any() for n in range(len(truth))])
        provenance = session.make_provenance().settings["evidence"]
    assert provenance.startswith("click, presence, mask, review: learned ")
    assert shown[frame] and (shown & ~nucleus.any(axis=(1, 2))).sum() <= 3
