"""Counting without a click on real stacks: counts, F1 and IoU, and for time-lapses TRA.

python -m benchmarks.accuracy.counting DATA --out results.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pandas as pd
import tifffile

from benchmarks.support.machine import describe_machine
from benchmarks.support.requirements import report_checks
from benchmarks.support.results import format_markdown, write_results
from napari_sam2.api.count import CountingOptions, VideoSelection, count_video
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.stack import Spacing, Stack
from napari_sam2.detection.options import PromptKind
from napari_sam2.measurement.evaluation.agreement import evaluate
from napari_sam2.models.load import load_model
from napari_sam2.tracking.association import AssociationName

PROMPT_KINDS: tuple[PromptKind, ...] = ("mask", "box", "point")
_GREY = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, eq=False)
class CountingSet:
    """A stack with its truth.

    Parameters
    ----------
    group, name
        Group in the table, and name.
    pixels
        (T, H, W) or (Z, H, W), see `along`.
    truth, true_count
        Labels of the same shape or, without outlines, the true number of objects.
    parents
        Parent by track, if there is a lineage.
    tracked
        Whether labels are linked over time, so that TRA can be measured.
    """

    group: str
    name: str
    pixels: np.ndarray
    truth: np.ndarray | None = None
    true_count: int | None = None
    parents: Mapping[int, int] = field(default_factory=dict)
    along: str = "t"
    tracked: bool = False
    spacing: Spacing = field(default_factory=Spacing)


def load_sets(data: Path) -> Iterator[CountingSet]:
    """Load every set of the folder, and print which ones are missing."""
    for make in (
        _load_nuclei_2d,
        _load_volumes,
        _load_time_lapses,
        _load_bacteria,
        _load_counted_images,
    ):
        try:
            yield from make(data)
        except FileNotFoundError as error:
            print(f"not measured: {error}")


def _load_nuclei_2d(data: Path) -> Iterator[CountingSet]:
    folder = data / "zstack_and_2d_stardist"
    yield CountingSet(
        "2D nuclei",
        "nuclei (StarDist)",
        tifffile.imread(folder / "img2d.tif")[None],
        tifffile.imread(folder / "mask2d.tif")[None],
    )
    folder = data / "timelapse_hela_nuclei"
    image, truth = (
        tifffile.imread(folder / "Fluo_Hela_02_img.tif"),
        tifffile.imread(folder / "Fluo_Hela_02_ERR_SEG.tif"),
    )
    for frame in (0, 11):
        yield CountingSet(
            "2D nuclei", f"HeLa, frame {frame}", image[frame][None], truth[frame][None]
        )
    folder = data / "timelapse_small_laptrack" / "napari_interactive_fix_data"
    image, truth = (
        tifffile.imread(folder / "example_images.tif"),
        tifffile.imread(folder / "example_label.tif"),
    )
    for frame in (0, 5):
        yield CountingSet(
            "2D nuclei", f"nuclei (LapTrack), frame {frame}", image[frame][None], truth[frame][None]
        )


def _load_volumes(data: Path) -> Iterator[CountingSet]:
    folder = data / "zstack_nuclei_cells3d"
    truth = tifffile.imread(folder / "nuclei_label.tif")
    spacing = Spacing(0.29, 0.26, 0.26)  # as scikit-image says of these data
    yield CountingSet(
        "3D nuclei",
        "nuclei (cells3d)",
        tifffile.imread(folder / "nuclei.tif"),
        truth,
        along="z",
        spacing=spacing,
    )
    folder = data / "zstack_and_2d_stardist"
    image, truth = tifffile.imread(folder / "img3d.tif"), tifffile.imread(folder / "mask3d.tif")
    spacing = Spacing(2.0, 1.0, 1.0)  # the authors give the proportions, not the pixel size
    yield CountingSet("3D nuclei", "nuclei (StarDist)", image, truth, along="z", spacing=spacing)


def _load_time_lapses(data: Path) -> Iterator[CountingSet]:
    folder = data / "timelapse_simcep_exact_tracks"
    images, masks = (
        sorted((folder / "img").glob("*.tif")),
        sorted((folder / "TRA").glob("man_track*.tif")),
    )
    truth = np.stack([tifffile.imread(path) for path in masks])
    yield CountingSet(
        "time-lapse",
        "simulated cells, exact lineage",
        np.stack([tifffile.imread(path) for path in images]),
        truth,
        parents=_read_parents(folder / "TRA" / "man_track.txt", truth),
        tracked=True,
    )
    folder = data / "timelapse_3d_cho"
    image, truth = (
        tifffile.imread(folder / "Fluo-N3DH-CHO_02_img.tif")[:, 2],
        tifffile.imread(folder / "derived_linked_ids.tif")[:, 2],
    )
    yield CountingSet(
        "time-lapse",
        "CHO nuclei, z = 2",
        image,
        truth,
        parents=_read_parents(folder / "derived_man_track.txt", truth),
        tracked=True,
    )


def _load_bacteria(data: Path) -> Iterator[CountingSet]:
    folder = data / "timelapse_ecoli"
    image, truth = tifffile.imread(folder / "img.tif"), tifffile.imread(folder / "mask.tif")
    for frame in (0, 10, 19):
        yield CountingSet(
            "bacteria",
            f"E. coli, phase contrast, frame {frame}",
            image[frame][None],
            truth[frame][None],
        )


def _load_counted_images(data: Path) -> Iterator[CountingSet]:
    folder = data / "counting_vgg_cells"
    for name, count in pd.read_csv(folder / "counts.csv").to_numpy().tolist():
        pixels = _read_grey(folder / "images" / name)
        yield CountingSet("counts alone: VGG cells", name, pixels, true_count=int(count))
    folder = data / "counting_bccd"
    for row in pd.read_csv(folder / "counts.csv").iloc[::8].to_dict("records"):
        pixels = _read_grey(folder / "JPEGImages" / row["file"])
        count = int(row["RBC"] + row["WBC"])
        yield CountingSet("counts alone: blood smears", row["file"], pixels, true_count=count)


def _read_grey(path: Path) -> np.ndarray:
    image = np.asarray(imageio.imread(path))
    return (image[..., :3] @ _GREY if image.ndim == 3 else image)[None]


def _read_parents(file: Path, truth: np.ndarray) -> dict[int, int]:
    rows = [tuple(int(part) for part in line.split()) for line in file.read_text().splitlines()]
    seen = set(np.unique(truth).tolist())
    return {
        track: parent for track, _, _, parent in rows if parent in seen and track in seen and parent
    }


def measure_counting(
    case: CountingSet, model: VideoModel, kind: PromptKind, association: AssociationName = "seeds"
) -> dict[str, Any]:
    """Count one set, and measure a row of the table."""
    begin = time.process_time()
    stack = Stack(case.pixels, case.along + "yx", case.spacing, name=case.name)
    video = VideoSelection(along=case.along).open_video(stack)
    found = count_video(
        video, model, CountingOptions(kind=kind, association=association), report=lambda _: None
    )
    with found.session:
        labels = np.asarray(found.run.labels.compute())
        parents = {
            int(a): int(b) for a, b in found.run.tracks[["track", "parent"]].dropna().to_numpy()
        }
    row: dict[str, Any] = {
        "group": case.group,
        "set": case.name,
        "seeds": kind,
        "found": len(np.unique(labels)) - 1,
    }
    if case.truth is None:
        row["truth"] = case.true_count
    else:
        row |= _measure_agreement(case, labels, parents)
    row["count_error"] = (row["found"] - row["truth"]) / row["truth"]
    return {**row, "seconds": time.process_time() - begin}


def _measure_agreement(
    case: CountingSet, labels: np.ndarray, parents: Mapping[int, int]
) -> dict[str, Any]:
    assert case.truth is not None
    agreement = evaluate(
        labels, case.truth, tracks=True, challenge=case.tracked, parents=(parents, case.parents)
    )
    assert agreement.tracks is not None
    row: dict[str, Any] = {"truth": len(np.unique(case.truth)) - 1, "f1": agreement.overall["f1"]}
    matched = agreement.tracks["iou_whole"] >= 0.5
    row["iou_matched"] = float(agreement.tracks["iou_whole"][matched].mean())
    row["matched"] = float(matched.mean())
    if case.tracked:
        names = ("TRA", "DET", "gt_divisions", "tp_div(1)", "fp_div(1)")
        row |= {name: agreement.overall[name] for name in names}
    return row


def check_requirements(rows: Sequence[dict[str, Any]]) -> dict[str, bool]:
    """Check the requirements, for seeds as they are by default."""
    by = {
        group: [row for row in rows if row["group"] == group and row["seeds"] == PROMPT_KINDS[0]]
        for group in {row["group"] for row in rows}
    }
    flat, solid, lapses = (by.get(group, []) for group in ("2D nuclei", "3D nuclei", "time-lapse"))
    divided = [row for row in lapses if row["gt_divisions"] > 0]
    return {
        "2D nuclei: F1 at IoU 0.5 at least 0.80 on average": bool(flat)
        and float(np.mean([row["f1"] for row in flat])) >= 0.8,
        "2D nuclei: count error at most 10 % on average": bool(flat)
        and float(np.mean([abs(row["count_error"]) for row in flat])) <= 0.1,
        "a 3D stack: count error at most 10 %": any(
            abs(row["count_error"]) <= 0.1 for row in solid
        ),
        "a 3D stack: mean IoU of matched objects at least 0.65": any(
            row["iou_matched"] >= 0.65 for row in solid
        ),
        "a time-lapse with divisions: TRA at least 0.90": any(row["TRA"] >= 0.9 for row in divided),
        "half of the divisions, at most one false for three true": any(
            row["tp_div(1)"] * 2 >= row["gt_divisions"] and row["fp_div(1)"] * 3 <= row["tp_div(1)"]
            for row in divided
        ),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print tables, write JSON; 0 if all requirements are reached."""
    options = _parse_options(arguments)
    about, model, rows = describe_machine(), load_model(options.model), []
    for each in load_sets(options.data):
        if options.groups and not each.group.startswith(tuple(options.groups)):
            continue
        for kind in options.kinds:
            rows.append(measure_counting(each, model, kind, options.trust))
            print(
                {
                    name: round(value, 3) if isinstance(value, float) else value
                    for name, value in rows[-1].items()
                },
                flush=True,
            )
    _print_tables(rows)
    outcome = check_requirements(rows)

    write_results(
        {
            "machine": about,
            "model": model.card.sha256,
            "trust": options.trust,
            "rows": rows,
            "reached": outcome,
        },
        options.out,
    )
    return report_checks(outcome.items())


def _print_tables(rows: Sequence[dict[str, Any]]) -> None:
    table = pd.DataFrame(rows)
    for group, part in table.groupby("group", sort=False):
        shown = part.dropna(axis=1, how="all").drop(columns="group")
        if len(shown) > 10:
            errors = part.groupby("seeds")["count_error"]
            summary = pd.DataFrame(
                {
                    "sets": errors.size(),
                    "mean error": errors.mean(),
                    "mean of absolute": errors.apply(lambda e: e.abs().mean()),
                }
            )
            shown = summary.reset_index()
        print(f"\n{group}\n{format_markdown(list(shown.columns), shown.to_numpy().tolist())}")


def _parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy.counting", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("data", type=Path, help="folder of the stacks, each with its truth")
    parser.add_argument("--model", default="nano", help="name or file of a model")
    parser.add_argument(
        "--kinds",
        nargs="+",
        choices=PROMPT_KINDS,
        default=list(PROMPT_KINDS[:1]),
        help="kinds of prompts made of seeds (%(default)s)",
    )
    parser.add_argument(
        "--trust",
        choices=("seeds", "model"),
        default="seeds",
        help="what links objects to later frames: seeds or masks of the model (%(default)s)",
    )
    parser.add_argument("--groups", nargs="+", help="groups whose name starts with this")
    parser.add_argument("--out", type=Path, help="write results as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
