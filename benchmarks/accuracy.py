"""Accuracy: one prompt per object, taken from the truth, carried through real stacks; IoU over all frames the object is on.

python -m benchmarks.accuracy DATA --out results.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.ndimage import distance_transform_edt

from benchmarks import machine
from napari_sam2.core.prompt import BoxPrompt, PointPrompt, Prompt
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.stack import Stack, Video
from napari_sam2.io.open import open_labels, open_stack
from napari_sam2.measurement.evaluation.agreement import evaluate
from napari_sam2.models.device import describe_device
from napari_sam2.models.load import load_model
from napari_sam2.propagation.session import Session, SessionSettings

PROMPT_KINDS = ("click", "box")
MIN_FRAMES = 3
"""Frames an object must be on to be carried at all."""

_SAMPLES = Path(__file__).parents[1] / "sample_data"


COLUMNS = {
    "stack": "stack",
    "frames": "frames",
    "objects": "objects",
    "prompt": "prompt",
    "IoU": "iou",
    "on the prompted frame": "iou_prompted",
    "prompted mask left still": "iou_still",
    "objects above 0.5": "halves",
    "ended on another": "strayed",
    "s": "seconds",
}
"""Columns of the table, and what they are called in JSON."""


@dataclass(frozen=True)
class AnnotatedStack:
    """A stack with its truth.

    Paths are relative to the data folder; `at`, `contrast`: see `Stack.as_video`.
    """

    name: str
    image: str
    truth: str
    axes: str
    along: str
    at: tuple[tuple[str, int], ...] = ()
    contrast: tuple[float, float] | None = None


STACKS = (
    AnnotatedStack(
        "nuclei, z (cells3d)",
        "zstack_nuclei_cells3d/nuclei.tif",
        "zstack_nuclei_cells3d/nuclei_label.tif",
        "zyx",
        "z",
    ),
    AnnotatedStack(
        "nuclei, z (StarDist)",
        "zstack_and_2d_stardist/img3d.tif",
        "zstack_and_2d_stardist/mask3d.tif",
        "zyx",
        "z",
    ),
    AnnotatedStack(
        "neurites, z (FIB-SEM)",
        "zstack_fibsem_neurites/raw.tif",
        "zstack_fibsem_neurites/neurite_instances.tif",
        "zyx",
        "z",
    ),
    AnnotatedStack(
        name="CHO nuclei, t",
        image="timelapse_3d_cho/Fluo-N3DH-CHO_02_img.tif",
        truth="timelapse_3d_cho/derived_linked_ids.tif",
        axes="tzyx",
        along="t",
        at=(("z", 2),),
    ),
    AnnotatedStack(
        name="organs, z (CT)",
        image="medical_ct_mr_organs/example_ct_sm.nii.gz",
        truth="medical_ct_mr_organs/example_seg_fast.nii.gz",
        axes="zyx",
        along="z",
        contrast=(-160, 240),  # soft tissue
    ),
    AnnotatedStack(
        "organs, z (MR)",
        "medical_ct_mr_organs/example_mr_sm.nii.gz",
        "medical_ct_mr_organs/example_seg_mr.nii.gz",
        "zyx",
        "z",
    ),
    *(
        AnnotatedStack(
            f"hippocampus, z (MR {patient})",
            f"{folder}/images/{patient}.nii.gz",
            f"{folder}/labels/{patient}.nii.gz",
            "zyx",
            "z",
        )
        for folder in ("medical_hippocampus_mri",)
        for patient in ("hippocampus_001", "hippocampus_106", "hippocampus_336")
    ),
    AnnotatedStack(
        "spinal cord, z (T2)",
        "medical_spinalcord_mri/t2/t2.nii.gz",
        "medical_spinalcord_mri/t2/t2_seg-manual.nii.gz",
        "zyx",
        "z",
    ),
)
SAMPLE_STACK = AnnotatedStack(
    "migrating nuclei, t (sample)", "migration_t.ome.tif", "migration_t_labels.ome.tif", "tyx", "t"
)
"""Ships with the package; looked for in its own folder."""


@dataclass(frozen=True, eq=False)
class TrackingCase:
    """A Source opened: its video, (frames, H, W) truth, and the frame each chosen object is prompted on."""

    video: Video
    truth: np.ndarray
    prompt_frames: dict[int, int]

    @classmethod
    def of(cls, stack: AnnotatedStack, folder: Path, limit: int) -> TrackingCase:
        """The `limit` objects on most frames; prompted where they are largest (z), or on their first frame (t)."""
        video = open_stack(folder / stack.image, axes=stack.axes).as_video(
            stack.along, contrast=stack.contrast, **dict(stack.at)
        )
        truth = _read_label_planes(open_labels(folder / stack.truth, axes=stack.axes), stack)
        areas = np.stack(
            [np.bincount(plane.ravel(), minlength=int(truth.max()) + 1) for plane in truth]
        )[:, 1:]
        seen = (areas > 0).sum(axis=0)
        order = [
            int(index) for index in np.argsort(-seen, kind="stable") if seen[index] >= MIN_FRAMES
        ][:limit]
        start = areas.argmax(axis=0) if stack.along == "z" else (areas > 0).argmax(axis=0)
        return cls(video, truth, {index + 1: int(start[index]) for index in sorted(order)})

    def prompt(self, track: int, kind: str) -> Prompt:
        """A click on the pixel deepest inside the object, or its bounding box."""
        frame = self.prompt_frames[track]
        mask = self.truth[frame] == track
        if kind == "click":
            depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
            y, x = np.unravel_index(int(depth.argmax()), depth.shape)
            return PointPrompt(frame, track, [(float(y), float(x))], [True])
        corners = np.argwhere(mask)
        low, high = (
            corners.min(axis=0) - 0.5,
            corners.max(axis=0) + 0.5,
        )  # outer edges, where the frame has room for them
        inside = np.clip([*low, *high], 0, np.array([*mask.shape, *mask.shape]) - 1)
        return BoxPrompt(frame, track, inside.tolist())

    @property
    def prompted_truth(self) -> np.ndarray:
        """The truth of the prompted objects alone."""
        return np.where(np.isin(self.truth, list(self.prompt_frames)), self.truth, 0)

    @property
    def static_labels(self) -> np.ndarray:
        """Each object's true mask of its prompted frame on all frames: what one gets by doing nothing."""
        labels = np.zeros_like(self.truth)
        for track, frame in self.prompt_frames.items():
            labels[:, self.truth[frame] == track] = track
        return labels


def measure_propagation(model: VideoModel, case: TrackingCase, kind: str) -> dict[str, Any]:
    """Prompt, propagate, compare: a row of the table."""
    began = time.perf_counter()
    with Session(case.video, model, settings=SessionSettings(patience=None)) as session:
        session.prompt_many([case.prompt(track, kind) for track in case.prompt_frames])
        session.propagate(progress=False)
        labels = np.stack([session.label_plane(frame) for frame in range(len(case.video))])
    seconds = time.perf_counter() - began
    tracks = evaluate_tracks(labels, case)
    return {
        "objects": len(case.prompt_frames),
        "frames": len(case.video),
        "prompt": kind,
        "iou": compute_mean_iou(tracks),
        "iou_prompted": float(
            np.mean(
                [
                    _compute_iou(labels[frame] == track, case.truth[frame] == track)
                    for track, frame in case.prompt_frames.items()
                ]
            )
        ),
        "iou_still": compute_mean_iou(evaluate_tracks(case.static_labels, case)),
        "halves": float((tracks["iou"] > 0.5).mean()),
        "strayed": float(
            np.mean(
                [_ends_on_other_object(labels, case.truth, track) for track in case.prompt_frames]
            )
        ),
        "seconds": round(seconds, 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 0 where at least one stack was there."""
    options = _parse_options(arguments)
    about = machine.describe_machine()
    model = load_model(options.model, device=options.device)
    print(f"{model.card.name} on {describe_device(model.device)}")
    rows: list[dict[str, Any]] = []
    for source, folder in find_stacks(options.data):
        rows += _measure_prompt_kinds(
            model, TrackingCase.of(source, folder, options.objects), source.name
        )
    print(
        "\n"
        + machine.format_markdown(
            list(COLUMNS), [[row[key] for key in COLUMNS.values()] for row in rows]
        )
    )
    machine.write_results(
        {"machine": about, "model": model.card.name, "sha256": model.card.sha256, "results": rows},
        options.out,
    )
    return 0 if rows else 1


def find_stacks(data: Path) -> list[tuple[AnnotatedStack, Path]]:
    """The sources that are there, each with the folder it lies in; those that are not are named."""
    found = []
    for source, folder in [*((source, data) for source in STACKS), (SAMPLE_STACK, _SAMPLES)]:
        if (folder / source.image).exists() and (folder / source.truth).exists():
            found.append((source, folder))
        else:
            print(
                f"not measured: {source.name}: {folder / source.image} or its labels are not there"
            )
    return found


def _measure_prompt_kinds(model: VideoModel, case: TrackingCase, name: str) -> list[dict[str, Any]]:
    rows = []
    for kind in PROMPT_KINDS:
        rows.append({"stack": name, **measure_propagation(model, case, kind)})
        print(
            f"{name}, {kind}: IoU {rows[-1]['iou']:.3f} in {rows[-1]['seconds']:.0f} s", flush=True
        )
    return rows


def _read_label_planes(labels: Stack, stack: AnnotatedStack) -> np.ndarray:
    at = dict(stack.at)
    return np.stack(
        [
            labels.read_plane({**at, stack.along: index})
            for index in range(labels.sizes[stack.along])
        ]
    ).astype(np.int64)


def evaluate_tracks(labels: np.ndarray, case: TrackingCase) -> pd.DataFrame:
    """One row per track of the truth: how well the label stack agrees with it."""
    tracks = evaluate(labels, case.prompted_truth, tracks=True, match="id").tracks
    assert tracks is not None
    return tracks


def _ends_on_other_object(labels: np.ndarray, truth: np.ndarray, track: int) -> bool:
    """Whether most of a track, on the first or the last frame its object is on, lies on another object."""
    frames = np.flatnonzero((truth == track).any(axis=(1, 2)))
    for frame in (frames[0], frames[-1]):
        below = truth[frame][labels[frame] == track]
        if below.size and np.bincount(below).argmax() not in (0, track):
            return True
    return False


def compute_mean_iou(tracks: pd.DataFrame) -> float:
    """IoU over all frames of all objects; each frame counts once."""
    return float((tracks["iou"] * tracks["n_frames"]).sum() / tracks["n_frames"].sum())


def _compute_iou(ours: np.ndarray, truth: np.ndarray) -> float:
    return float((ours & truth).sum() / (ours | truth).sum())


def _parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy",
        description=__doc__.splitlines()[0] if __doc__ else None,
    )
    parser.add_argument(
        "data", type=Path, help="folder that holds the stacks of SOURCES, each with its truth"
    )
    parser.add_argument("--model", default="nano", help="name or file")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--objects", type=int, default=20, help="carry at most so many objects of a stack"
    )
    parser.add_argument("--out", type=Path, help="write results as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
