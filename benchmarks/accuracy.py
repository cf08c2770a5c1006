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
from napari_sam2.api.session import Session
from napari_sam2.core.prompt import BoxPrompt, PointPrompt, Prompt
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.stack import Stack
from napari_sam2.core.video import Video
from napari_sam2.io.open import open_labels, open_stack
from napari_sam2.measurement.evaluation.agreement import evaluate
from napari_sam2.models.device import describe
from napari_sam2.models.load import load_model
from napari_sam2.propagation.session import Settings

KINDS = ("click", "box")
LEAST = 3
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
class Source:
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


SOURCES = (
    Source(
        "nuclei, z (cells3d)",
        "zstack_nuclei_cells3d/nuclei.tif",
        "zstack_nuclei_cells3d/nuclei_label.tif",
        "zyx",
        "z",
    ),
    Source(
        "nuclei, z (StarDist)",
        "zstack_and_2d_stardist/img3d.tif",
        "zstack_and_2d_stardist/mask3d.tif",
        "zyx",
        "z",
    ),
    Source(
        "neurites, z (FIB-SEM)",
        "zstack_fibsem_neurites/raw.tif",
        "zstack_fibsem_neurites/neurite_instances.tif",
        "zyx",
        "z",
    ),
    Source(
        name="CHO nuclei, t",
        image="timelapse_3d_cho/Fluo-N3DH-CHO_02_img.tif",
        truth="timelapse_3d_cho/derived_linked_ids.tif",
        axes="tzyx",
        along="t",
        at=(("z", 2),),
    ),
    Source(
        name="organs, z (CT)",
        image="medical_ct_mr_organs/example_ct_sm.nii.gz",
        truth="medical_ct_mr_organs/example_seg_fast.nii.gz",
        axes="zyx",
        along="z",
        contrast=(-160, 240),  # soft tissue
    ),
    Source(
        "organs, z (MR)",
        "medical_ct_mr_organs/example_mr_sm.nii.gz",
        "medical_ct_mr_organs/example_seg_mr.nii.gz",
        "zyx",
        "z",
    ),
    *(
        Source(
            f"hippocampus, z (MR {patient})",
            f"{folder}/images/{patient}.nii.gz",
            f"{folder}/labels/{patient}.nii.gz",
            "zyx",
            "z",
        )
        for folder in ("medical_hippocampus_mri",)
        for patient in ("hippocampus_001", "hippocampus_106", "hippocampus_336")
    ),
    Source(
        "spinal cord, z (T2)",
        "medical_spinalcord_mri/t2/t2.nii.gz",
        "medical_spinalcord_mri/t2/t2_seg-manual.nii.gz",
        "zyx",
        "z",
    ),
)
SAMPLE = Source(
    "migrating nuclei, t (sample)", "migration_t.ome.tif", "migration_t_labels.ome.tif", "tyx", "t"
)
"""Ships with the package; looked for in its own folder."""


@dataclass(frozen=True, eq=False)
class Carried:
    """A Source opened: its video, (frames, H, W) truth, and the frame each chosen object is prompted on."""

    video: Video
    truth: np.ndarray
    frames: dict[int, int]

    @classmethod
    def of(cls, source: Source, folder: Path, limit: int) -> Carried:
        """The `limit` objects on most frames; prompted where they are largest (z), or on their first frame (t)."""
        video = open_stack(folder / source.image, axes=source.axes).as_video(
            source.along, contrast=source.contrast, **dict(source.at)
        )
        truth = _planes(open_labels(folder / source.truth, axes=source.axes), source)
        areas = np.stack(
            [np.bincount(plane.ravel(), minlength=int(truth.max()) + 1) for plane in truth]
        )[:, 1:]
        seen = (areas > 0).sum(axis=0)
        order = [int(index) for index in np.argsort(-seen, kind="stable") if seen[index] >= LEAST][
            :limit
        ]
        start = areas.argmax(axis=0) if source.along == "z" else (areas > 0).argmax(axis=0)
        return cls(video, truth, {index + 1: int(start[index]) for index in sorted(order)})

    def prompt(self, track: int, kind: str) -> Prompt:
        """A click on the pixel deepest inside the object, or its bounding box."""
        frame = self.frames[track]
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
    def known(self) -> np.ndarray:
        """The truth of the prompted objects alone."""
        return np.where(np.isin(self.truth, list(self.frames)), self.truth, 0)

    @property
    def still(self) -> np.ndarray:
        """Each object's true mask of its prompted frame on all frames: what one gets by doing nothing."""
        labels = np.zeros_like(self.truth)
        for track, frame in self.frames.items():
            labels[:, self.truth[frame] == track] = track
        return labels


def carried(model: VideoModel, case: Carried, kind: str) -> dict[str, Any]:
    """Prompt, propagate, compare: a row of the table."""
    began = time.perf_counter()
    with Session(case.video, model, settings=Settings(patience=None)) as session:
        session.prompt_many([case.prompt(track, kind) for track in case.frames])
        session.propagate(progress=False)
        labels = np.stack([session.plane(frame) for frame in range(len(case.video))])
    seconds = time.perf_counter() - began
    tracks = _tracks(labels, case)
    return {
        "objects": len(case.frames),
        "frames": len(case.video),
        "prompt": kind,
        "iou": _mean(tracks),
        "iou_prompted": float(
            np.mean(
                [
                    _iou(labels[frame] == track, case.truth[frame] == track)
                    for track, frame in case.frames.items()
                ]
            )
        ),
        "iou_still": _mean(_tracks(case.still, case)),
        "halves": float((tracks["iou"] > 0.5).mean()),
        "strayed": float(np.mean([_strayed(labels, case.truth, track) for track in case.frames])),
        "seconds": round(seconds, 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 0 where at least one stack was there."""
    options = _options(arguments)
    about = machine.described()
    model = load_model(options.model, device=options.device)
    print(f"{model.card.name} on {describe(model.device)}")
    rows: list[dict[str, Any]] = []
    for source, folder in _there(options.data):
        rows += _rows(model, Carried.of(source, folder, options.objects), source.name)
    print(
        "\n"
        + machine.markdown(list(COLUMNS), [[row[key] for key in COLUMNS.values()] for row in rows])
    )
    machine.keep(
        {"machine": about, "model": model.card.name, "sha256": model.card.sha256, "results": rows},
        options.out,
    )
    return 0 if rows else 1


def _there(data: Path) -> list[tuple[Source, Path]]:
    """The sources that are there, each with the folder it lies in; those that are not are named."""
    found = []
    for source, folder in [*((source, data) for source in SOURCES), (SAMPLE, _SAMPLES)]:
        if (folder / source.image).exists() and (folder / source.truth).exists():
            found.append((source, folder))
        else:
            print(
                f"not measured: {source.name}: {folder / source.image} or its labels are not there"
            )
    return found


def _rows(model: VideoModel, case: Carried, name: str) -> list[dict[str, Any]]:
    rows = []
    for kind in KINDS:
        rows.append({"stack": name, **carried(model, case, kind)})
        print(
            f"{name}, {kind}: IoU {rows[-1]['iou']:.3f} in {rows[-1]['seconds']:.0f} s", flush=True
        )
    return rows


def _planes(labels: Stack, source: Source) -> np.ndarray:
    at = dict(source.at)
    return np.stack(
        [labels.plane({**at, source.along: index}) for index in range(labels.sizes[source.along])]
    ).astype(np.int64)


def _tracks(labels: np.ndarray, case: Carried) -> pd.DataFrame:
    tracks = evaluate(labels, case.known, tracks=True, match="id").tracks
    assert tracks is not None
    return tracks


def _strayed(labels: np.ndarray, truth: np.ndarray, track: int) -> bool:
    """Whether most of a track, on the first or the last frame its object is on, lies on another object."""
    frames = np.flatnonzero((truth == track).any(axis=(1, 2)))
    for frame in (frames[0], frames[-1]):
        below = truth[frame][labels[frame] == track]
        if below.size and np.bincount(below).argmax() not in (0, track):
            return True
    return False


def _mean(tracks: pd.DataFrame) -> float:
    """IoU over all frames of all objects; each frame counts once."""
    return float((tracks["iou"] * tracks["n_frames"]).sum() / tracks["n_frames"].sum())


def _iou(ours: np.ndarray, truth: np.ndarray) -> float:
    return float((ours & truth).sum() / (ours | truth).sum())


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
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
