"""Annotated stacks, and the objects of them that are prompted and evaluated."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import distance_transform_edt

from napari_sam2.api.samples import SAMPLES
from napari_sam2.core.prompt import BoxPrompt, PointPrompt, Prompt
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.stack import Stack, Video
from napari_sam2.io.open import open_labels, open_stack
from napari_sam2.measurement.evaluation.agreement import evaluate
from napari_sam2.propagation.session import Session, SessionSettings

PROMPT_KINDS = ("click", "box")


MIN_FRAMES = 3
"""Frames that an object must be on to be measured."""


_SAMPLES = SAMPLES[0].image.parent


@dataclass(frozen=True)
class AnnotatedStack:
    """A stack with its truth.

    Paths are relative to the data folder. `at`, `contrast`: see `Stack.as_video`.
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
"""A sample of the package, in the package's own folder."""


@dataclass(frozen=True, eq=False)
class TrackingCase:
    """An opened stack: its video, its (frames, H, W) truth, and each object's prompted frame."""

    video: Video
    truth: np.ndarray
    prompt_frames: dict[int, int]

    @classmethod
    def of(cls, stack: AnnotatedStack, folder: Path, limit: int) -> TrackingCase:
        """Open a stack, and choose at most `limit` objects, those that are on most frames.

        Along z they are prompted on the frame where they are largest, along t on their first frame.
        """
        video = open_stack(folder / stack.image, axes=stack.axes).as_video(
            stack.along, contrast=stack.contrast, **dict(stack.at)
        )
        truth = _read_label_planes(open_labels(folder / stack.truth, axes=stack.axes), stack)
        areas = np.stack(
            [np.bincount(plane.ravel(), minlength=int(truth.max()) + 1) for plane in truth]
        )[:, 1:]
        frames = (areas > 0).sum(axis=0)
        order = np.argsort(-frames, kind="stable").tolist()
        chosen = [index for index in order if frames[index] >= MIN_FRAMES][:limit]
        prompted = areas.argmax(axis=0) if stack.along == "z" else (areas > 0).argmax(axis=0)
        return cls(video, truth, {index + 1: int(prompted[index]) for index in sorted(chosen)})

    def prompt(self, track: int, kind: str) -> Prompt:
        """Prompt an object by a click on the pixel deepest inside, or by its bounding box."""
        frame = self.prompt_frames[track]
        mask = self.truth[frame] == track
        if kind == "click":
            depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
            y, x = np.unravel_index(int(depth.argmax()), depth.shape)
            return PointPrompt(frame, track, [(float(y), float(x))], [True])
        pixels = np.argwhere(mask)
        # the outer edges of the pixels, unless the object touches the edge of the frame
        low, high = pixels.min(axis=0) - 0.5, pixels.max(axis=0) + 0.5
        inside = np.clip([*low, *high], 0, np.array([*mask.shape, *mask.shape]) - 1)
        return BoxPrompt(frame, track, inside.tolist())

    @property
    def prompted_truth(self) -> np.ndarray:
        """The truth without objects that are not prompted."""
        return np.where(np.isin(self.truth, list(self.prompt_frames)), self.truth, 0)

    @property
    def static_labels(self) -> np.ndarray:
        """Each object's true mask on its prompted frame, repeated on all frames: a baseline."""
        labels = np.zeros_like(self.truth)
        for track, frame in self.prompt_frames.items():
            labels[:, self.truth[frame] == track] = track
        return labels


def find_stacks(data: Path) -> list[tuple[AnnotatedStack, Path]]:
    """Find the stacks that exist, each with its folder, and print which ones do not."""
    found = []
    for stack, folder in [*((stack, data) for stack in STACKS), (SAMPLE_STACK, _SAMPLES)]:
        if (folder / stack.image).exists() and (folder / stack.truth).exists():
            found.append((stack, folder))
        else:
            print(f"not measured: {stack.name}: {folder / stack.image} or its labels are missing")
    return found


def _read_label_planes(labels: Stack, stack: AnnotatedStack) -> np.ndarray:
    at = dict(stack.at)
    return np.stack(
        [
            labels.read_plane({**at, stack.along: index})
            for index in range(labels.sizes[stack.along])
        ]
    ).astype(np.int64)


def evaluate_tracks(labels: np.ndarray, case: TrackingCase) -> pd.DataFrame:
    """Evaluate a label stack: a row per track of the truth."""
    tracks = evaluate(labels, case.prompted_truth, tracks=True, match="id").tracks
    assert tracks is not None
    return tracks


def compute_mean_iou(tracks: pd.DataFrame) -> float:
    """Compute the mean IoU over all frames of all objects."""
    return float((tracks["iou"] * tracks["n_frames"]).sum() / tracks["n_frames"].sum())


@dataclass(frozen=True, eq=False)
class AttentionResult:
    """The propagation of a stack with one kind of attention.

    Parameters
    ----------
    labels
        (frames, H, W) label planes.
    region_share
        Share of the masks that were computed by a region, not by the whole frame.
    cpu_s
        Seconds of processor time.
    """

    labels: np.ndarray
    region_share: float
    cpu_s: float

    @classmethod
    def of(cls, case: TrackingCase, model: VideoModel, kind: str) -> AttentionResult:
        """Prompt all objects, and propagate them."""
        start = time.process_time()
        with Session(case.video, model, settings=SessionSettings(patience=None)) as session:
            session.prompt_many([case.prompt(track, kind) for track in case.prompt_frames])
            session.propagate(progress=False)
            labels = np.stack(
                [session.compute_label_plane(frame) for frame in range(len(case.video))]
            )
            cpu_s = time.process_time() - start
            sizes = [
                segment.window.size
                for frame in range(len(case.video))
                for segment in session.get_segments(frame)
            ]
        return cls(labels, float(np.mean(np.array(sizes) < model.card.input_sizes[-1])), cpu_s)
