"""Profiles: where the time of a propagation goes, by stage and by operator.

    python -m benchmarks.speed.profiles --out results.json

PyTorch's own profiler measures. Stages are labelled from outside, around the methods that do them;
the time of a stage inside another one counts for the inner one only.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.support.crowd_case import CrowdCase
from benchmarks.support.machine import describe_machine, set_threads
from benchmarks.support.random_model import draw_crowd, make_local_peer
from benchmarks.support.results import format_markdown, write_results
from napari_sam2.core.contrast import Contrast
from napari_sam2.core.prompt import PointPrompt, Prompt
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.stack import Stack, Video
from napari_sam2.core.window import Window
from napari_sam2.models.load import load_model
from napari_sam2.models.network.sam2_network import Sam2Network
from napari_sam2.models.object_crops import ObjectCropModel
from napari_sam2.models.predictor import Sam2Predictor
from napari_sam2.propagation import propagate
from napari_sam2.propagation import session as sessions
from napari_sam2.propagation.embedding_cache import EmbeddingCache
from napari_sam2.propagation.segment_store import SegmentStore
from napari_sam2.propagation.session import Session, SessionSettings

REST_OF_PROPAGATION = "the rest of the propagation"
STAGES: dict[str, tuple[tuple[Any, str], ...]] = {
    "read": ((EmbeddingCache, "_read_frame"),),
    "resize": ((Window, "crop"),),
    "encode": ((Sam2Network, "embed"),),
    "gather features": ((Sam2Predictor, "get_features"), (ObjectCropModel, "get_features")),
    "gather memories": (
        (Sam2Predictor, "_gather_memories"),
        (ObjectCropModel, "_gather_memories"),
    ),
    "memory attention": ((Sam2Network, "condition_on_memory"),),
    "decoder": ((Sam2Network, "decode"),),
    "memory encoder": ((Sam2Network, "encode_memory"),),
    "the rest of the model": (
        (Sam2Predictor, "segment"),
        (ObjectCropModel, "segment"),
        (Sam2Predictor, "encode_memory"),
        (ObjectCropModel, "encode_memory"),
    ),
    "policy": ((propagate, "select_memories"),),
    "segment store": (
        (SegmentStore, "put"),
        (SegmentStore, "get"),
        (SegmentStore, "get_frame"),
        (SegmentStore, "get_record"),
        (SegmentStore, "load_state"),
    ),
    "label plane": ((sessions, "compose_frame"),),
}
"""What each stage does: methods of classes, or names in modules."""

MAX_OPERATORS = 10
"""Number of operators to print."""


@contextmanager
def label_stages() -> Iterator[None]:
    """Record all stages under their names."""
    with ExitStack() as stack:
        for stage, places in STAGES.items():
            for owner, name in places:
                stack.enter_context(
                    patch.object(owner, name, _record_calls(stage, vars(owner)[name]))
                )
        yield


def _record_calls(stage: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def recorded(*arguments: Any, **options: Any) -> Any:
        with record_function(stage):
            return method(*arguments, **options)

    return recorded


def compute_stage_seconds(events: Sequence[FunctionEvent]) -> dict[str, float]:
    """Compute the seconds of each stage, without the stages inside it."""
    names, seconds = {*STAGES, REST_OF_PROPAGATION}, defaultdict[str, float](float)
    for event in events:
        if event.name in names:
            seconds[event.name] += event.cpu_time_total / 1e6
            outer = _find_enclosing_stage(event, names)
            if outer:
                seconds[outer.name] -= event.cpu_time_total / 1e6
    return dict(sorted(seconds.items(), key=lambda each: -each[1]))


def _find_enclosing_stage(event: FunctionEvent, names: set[str]) -> FunctionEvent | None:
    """Find the stage around an event."""
    outer = event.cpu_parent
    while outer is not None and outer.name not in names:
        outer = outer.cpu_parent
    return outer


def list_costly_operators(found: profile) -> dict[str, tuple[float, int]]:
    """List the costliest operators: their own seconds, and the number of calls."""
    rows = [row for row in found.key_averages() if row.key not in {*STAGES, REST_OF_PROPAGATION}]
    rows.sort(key=lambda row: -row.self_cpu_time_total)
    return {row.key: (row.self_cpu_time_total / 1e6, row.count) for row in rows[:MAX_OPERATORS]}


def profile_propagation(model: VideoModel, video: Video, prompts: Sequence[Prompt]) -> profile:
    """Profile a propagation and all label planes, after a first run to warm up."""
    found: profile | None = None
    for warm in (True, False):
        with Session(video, model, settings=SessionSettings(patience=None)) as session:
            session.prompt_many(prompts)
            plan = session.plan()
            if warm:
                next(iter(session.run(plan)))
                continue
            with (
                label_stages(),
                profile(activities=[ProfilerActivity.CPU]) as found,
                record_function(REST_OF_PROPAGATION),
            ):
                session.run(plan).finish()
                for frame in range(1, len(video)):
                    session.compute_label_plane(frame)
    assert found is not None
    return found


def make_nano_case(frames: int) -> tuple[VideoModel, Video, Sequence[Prompt]]:
    """Make the embedded model on 512 × 512 with 50 objects."""
    case = CrowdCase(512, 50, frames)
    return (
        load_model("nano", device="cpu"),
        case.make_stack().as_video("t"),
        case.make_box_prompts(),
    )


def make_tiny_case(frames: int) -> tuple[VideoModel, Video, Sequence[Prompt]]:
    """Make SAM 2.1 tiny with random weights on 1024 × 1024 with local attention on 8 objects."""
    case = draw_crowd(frames=frames, objects=8, size=1024)
    video = Video.of(Stack(case.frames, "tyx"), contrast=Contrast(0.0, 1.0))
    model = make_local_peer(1024, 16).model
    return (
        model,
        video,
        [PointPrompt(click.frame, click.track, click.yx, click.positive) for click in case.clicks],
    )


CASES: dict[str, tuple[str, Callable[[int], tuple[VideoModel, Video, Sequence[Prompt]]]]] = {
    "nano": ("nano, 512 × 512, 50 objects", make_nano_case),
    "tiny": ("SAM 2.1 tiny, 1024 × 1024, 8 objects, local attention", make_tiny_case),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print tables, write JSON; always 0, because there are no requirements."""
    options = _parse_options(arguments)
    about, results = describe_machine(), {}
    for name in options.only or CASES:
        title, made = CASES[name]
        found = profile_propagation(*made(options.frames))
        events: Any = found.events()  # type: ignore[no-untyped-call]
        stages, costly = compute_stage_seconds(events), list_costly_operators(found)
        total = sum(stages.values())
        results[name] = {
            "seconds": total,
            "frames": options.frames - 1,
            "stages": stages,
            "operators": costly,
        }
        print(f"\n{title}: {total:.2f} s for {options.frames - 1} frames\n")
        print(
            format_markdown(
                ["stage", "%"], [[stage, 100 * part / total] for stage, part in stages.items()]
            )
            + "\n"
        )
        rows = [
            [f"`{key}`", 100 * seconds / total, count] for key, (seconds, count) in costly.items()
        ]
        print(format_markdown(["operator, by itself", "%", "calls"], rows), flush=True)
    write_results({"machine": about, "results": results}, options.out)
    return 0


def _parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.profiles", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--only", nargs="+", choices=list(CASES), help="profile these only")
    parser.add_argument(
        "--frames",
        type=int,
        default=6,
        help="frames of the stack; all but the first are propagated to (%(default)s)",
    )
    parser.add_argument("--threads", type=int, help="number of threads of torch")
    parser.add_argument("--out", type=Path, help="write results as JSON")
    return set_threads(parser.parse_args(arguments))


if __name__ == "__main__":
    raise SystemExit(main())
