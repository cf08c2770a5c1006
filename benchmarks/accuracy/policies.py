"""Policies: identity switches on crowded time-lapses, by memory policy.

    python -m benchmarks.accuracy.policies DATA --out results.json

The embedded model, every object prompted once. Two of the time-lapses are drawn: rows of similar
objects that pass close to each other, and rows that partly hide each other.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter

from benchmarks.support.machine import describe_machine
from benchmarks.support.masks import compute_track_iou
from benchmarks.support.results import format_markdown, write_results
from benchmarks.support.stacks import MIN_FRAMES
from napari_sam2.api.samples import SAMPLES
from napari_sam2.core.card import ModelCard
from napari_sam2.core.prompt import BoxPrompt, PointPrompt, Prompt
from napari_sam2.core.protocols import MemoryPolicy, VideoModel
from napari_sam2.core.stack import Stack, Video
from napari_sam2.models.load import load_model
from napari_sam2.propagation.memory_policies import POLICIES
from napari_sam2.propagation.session import Session
from napari_sam2.testing.scenes import BRIGHTEST, make_passing_scene

COLUMNS = (
    "stack",
    "policy",
    "objects",
    "frames",
    "switches",
    "on another at the end",
    "IoU",
    "cpu s",
)
_MIN_OUTLINE_PX = 9  # fewer pixels are a marker, not an outline, and have no IoU
_REPEATS = 3  # drawings of each scene, because switches are few and depend on the noise
_SAMPLES = SAMPLES[0].image.parent


def load_time_lapses(data: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield the name, (frames, H, W) pixels and labels of each time-lapse that exists."""
    folder = data / "timelapse_simcep_exact_tracks"
    if folder.exists():
        planes = [
            np.stack([tifffile.imread(path) for path in sorted(folder.glob(f))])
            for f in ("img/*.tif", "TRA/man_track*.tif")
        ]
        yield "simulated cells", planes[0], planes[1]
    folder = data / "timelapse_3d_cho"
    if folder.exists():
        names = ("Fluo-N3DH-CHO_02_img.tif", "derived_linked_ids.tif")
        image, truth = (tifffile.imread(folder / name)[:, 2] for name in names)
        yield "CHO nuclei, z = 2", image, truth
    for name, apart in (("passing look-alikes", 2.1), ("overlapping look-alikes", 1.5)):
        for seed in range(_REPEATS):
            yield f"{name} ({seed + 1})", *_draw_look_alikes(apart, seed)
    image, truth = (
        tifffile.imread(_SAMPLES / f"migration_t{part}.ome.tif") for part in ("", "_labels")
    )
    yield "migrating nuclei (sample)", image, truth


def _draw_look_alikes(distance_radii: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows of blurred discs in noise, `distance_radii` radii apart, and their labels."""
    scene = make_passing_scene(
        frames=24, shape=(192, 192), radius=7, row_spacing=distance_radii, speed=3.0
    )
    grey = gaussian_filter(scene.stack.data.astype(np.float32) / BRIGHTEST, (0, 1.5, 1.5))
    noise = np.asarray(np.random.default_rng(seed).normal(0, 0.05, grey.shape))
    return grey + noise.astype(np.float32), scene.labels


def measure_policy(
    model: VideoModel, policy: str, pixels: np.ndarray, truth: np.ndarray, max_objects: int
) -> list[Any]:
    """Prompt each object on its first frame, propagate forward, and compare with the truth."""
    present = {
        int(track): np.flatnonzero((truth == track).any(axis=(1, 2)))
        for track in np.unique(truth)
        if track
    }
    first_frames = {
        track: int(frames[0]) for track, frames in present.items() if len(frames) >= MIN_FRAMES
    }
    tracks = list(first_frames)[:max_objects]
    video, made_policy = Video.of(Stack(pixels, "tyx")), _make_policy(policy, model.card)
    start = time.process_time()
    with Session(video, model, policy=made_policy) as session:
        session.prompt_many([_make_prompt(first_frames[track], track, truth) for track in tracks])
        session.propagate(direction="forward", progress=False)
        labels = np.stack([session.compute_label_plane(frame) for frame in range(len(truth))])
    seconds = time.process_time() - start
    owners = [_find_owners(labels, truth, track) for track in tracks]
    strayed = [len(own) > 0 and own[-1] != track for track, own in zip(tracks, owners, strict=True)]
    switches = sum(int((own[1:] != own[:-1]).sum()) for own in owners)
    has_outlines = (truth > 0).sum() >= _MIN_OUTLINE_PX * len(tracks) * len(truth) / 2
    iou = compute_track_iou(labels, truth, tracks) if has_outlines else float("nan")
    ended = float(np.mean(strayed))
    return [policy, len(tracks), len(truth), switches, ended, iou, round(seconds, 1)]


def _make_policy(policy: str, card: ModelCard) -> MemoryPolicy:
    """Make a policy with as many slots and pointers as the model was trained with."""
    factory: Any = POLICIES.get(policy)
    made: MemoryPolicy = factory(recent=card.memory_slots - 1, pointers=card.pointers)
    return made


def _find_owners(labels: np.ndarray, truth: np.ndarray, track: int) -> np.ndarray:
    """Find the true object under most of a track's mask, on each frame where there is one."""
    found = []
    for plane, true in zip(labels, truth, strict=True):
        counts = np.bincount(true[plane == track], minlength=1)
        counts[0] = 0
        if counts.any():
            found.append(int(counts.argmax()))
    return np.array(found)


def _make_prompt(frame: int, track: int, truth: np.ndarray) -> Prompt:
    """Make a box around an object, or a click if the truth is only a marker."""
    pixels = np.argwhere(truth[frame] == track)
    if len(pixels) < _MIN_OUTLINE_PX:
        return PointPrompt(frame, track, [pixels[0].tolist()], [True])
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    return BoxPrompt(frame, track, [float(edge) for edge in (*low, *np.maximum(high, low + 1))])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 0 if at least one stack was found."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy.policies", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("data", type=Path, help="folder of the stacks, each with its truth")
    parser.add_argument(
        "--policies", nargs="+", default=list(POLICIES), help="policies to measure (%(default)s)"
    )
    parser.add_argument("--objects", type=int, default=30, help="objects of a stack, at most")
    parser.add_argument("--frames", type=int, default=40, help="frames of a stack, at most")
    parser.add_argument("--only", nargs="+", help="stacks whose name starts with this")
    parser.add_argument("--out", type=Path, help="write results as JSON")
    options = parser.parse_args(arguments)
    about, model, rows = (
        describe_machine(),
        load_model("nano", device="cpu"),
        list[list[Any]](),
    )
    for name, pixels, truth in load_time_lapses(options.data):
        if options.only and not name.startswith(tuple(options.only)):
            continue
        for policy in options.policies:
            part = (pixels[: options.frames], truth[: options.frames])
            rows.append([name, *measure_policy(model, policy, *part, options.objects)])
            print(rows[-1], flush=True)
    print("\n" + format_markdown(COLUMNS, rows))
    write_results({"machine": about, "columns": COLUMNS, "results": rows}, options.out)
    return 0 if rows else 1


if __name__ == "__main__":
    raise SystemExit(main())
