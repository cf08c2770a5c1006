"""The contract of sinks, as tests to inherit."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_sam2.core.protocols import Sink

SHAPE = (5, 24, 32)
"""(frames, H, W) of the label stacks the contract writes."""


class SinkContract:
    """Tests of a Sink: inherit, and override `make_sink` and `read`.

    Also override `read_axes` if the format names its axes.
    """

    axes = "tyx"
    """Axes of the label stacks."""

    def make_sink(self, folder: Path, *, dtype: np.dtype) -> Sink:
        """Return a new sink for labels of `SHAPE`, always of the same name in `folder`."""
        raise NotImplementedError("override make_sink")

    def read(self, path: Path) -> np.ndarray:
        """Read the labels at `Sink.path`, if possible with other code than the sink's own."""
        raise NotImplementedError("override read")

    def read_axes(self, path: Path) -> str:
        """Read the axes that the file names, one lower-case letter per dimension."""
        del path
        return self.axes

    def test_planes_come_back_exactly(self, tmp_path: Path) -> None:
        labels = _make_labels(0)
        self._assert_same(self._write(tmp_path, labels, range(len(labels))), labels)

    def test_planes_in_any_order_come_back_in_theirs(self, tmp_path: Path) -> None:
        labels = _make_labels(1)
        self._assert_same(self._write(tmp_path, labels, (3, 0, 4, 2, 1)), labels)

    def test_large_track_ids_come_back_exactly(self, tmp_path: Path) -> None:
        labels = _make_labels(2, np.dtype(np.uint32)) * np.uint32(70_001)
        self._assert_same(self._write(tmp_path, labels, range(len(labels))), labels)

    def test_one_buffer_may_be_used_for_all_planes(self, tmp_path: Path) -> None:
        labels = _make_labels(3)
        buffer = np.empty_like(labels[0])
        sink = self.make_sink(tmp_path, dtype=labels.dtype)
        with sink:
            for frame, plane in enumerate(labels):
                buffer[...] = plane
                sink.put(frame, buffer)
                np.testing.assert_array_equal(
                    buffer, plane, err_msg="the sink changed the plane it was given"
                )
        self._assert_same(sink.path, labels)

    def test_axes_are_named(self, tmp_path: Path) -> None:
        found = self.read_axes(self._write(tmp_path, _make_labels(4), range(SHAPE[0])))
        assert found == self.axes, f"the file has axes {found!r}, expected {self.axes!r}"

    def test_nothing_is_there_under_the_final_name_before_the_end(self, tmp_path: Path) -> None:
        sink = self.make_sink(tmp_path, dtype=np.dtype(np.uint16))
        with sink:
            sink.put(0, _make_labels(5)[0])
            assert not sink.path.exists(), f"{sink.path.name} exists before it is complete"
            for frame in range(1, SHAPE[0]):
                sink.put(frame, _make_labels(5)[frame])
        assert sink.path.exists(), f"{sink.path.name} does not exist after a clean exit"

    def test_a_failure_is_raised_and_leaves_no_result(self, tmp_path: Path) -> None:
        path = self._write_and_fail(tmp_path)
        assert not path.exists(), f"{path.name} exists after a failure"

    def test_a_failure_leaves_the_older_result(self, tmp_path: Path) -> None:
        older = _make_labels(6)
        path = self._write(tmp_path, older, range(len(older)))
        assert self._write_and_fail(tmp_path) == path, "two equal sinks write to different paths"
        self._assert_same(path, older)

    def test_a_second_run_replaces_the_first(self, tmp_path: Path) -> None:
        newer = _make_labels(8)
        self._write(tmp_path, _make_labels(7), range(SHAPE[0]))
        self._assert_same(self._write(tmp_path, newer, range(len(newer))), newer)

    def test_a_run_after_a_failure_is_whole(self, tmp_path: Path) -> None:
        labels = _make_labels(9)
        self._write_and_fail(tmp_path)
        self._assert_same(self._write(tmp_path, labels, range(len(labels))), labels)

    def _write(self, folder: Path, labels: np.ndarray, order: range | tuple[int, ...]) -> Path:
        sink = self.make_sink(folder, dtype=labels.dtype)
        with sink:
            for frame in order:
                sink.put(frame, labels[frame].copy())
        return sink.path

    def _write_and_fail(self, folder: Path) -> Path:
        """Write a plane and fail. Returns the path that was not written."""
        sink = self.make_sink(folder, dtype=np.dtype(np.uint16))
        raised = False
        try:
            with sink:
                sink.put(0, np.full(SHAPE[1:], 9, dtype=np.uint16))
                raise _SimulatedFailure
        except _SimulatedFailure:
            raised = True
        assert raised, "the sink swallowed the exception of the run"
        return sink.path

    def _assert_same(self, path: Path, labels: np.ndarray) -> None:
        found = np.asarray(self.read(path))
        assert found.dtype == labels.dtype, f"labels of {labels.dtype} came back as {found.dtype}"
        np.testing.assert_array_equal(found, labels, err_msg="labels came back changed")


class _SimulatedFailure(Exception):
    """An error in the middle of a run."""


def _make_labels(seed: int, dtype: np.dtype | None = None) -> np.ndarray:
    """Make blocks of track ids, different for each seed and on each frame."""
    coarse = np.random.default_rng(seed).integers(0, 300, (SHAPE[0], SHAPE[1] // 4, SHAPE[2] // 4))
    return np.asarray(coarse.repeat(4, axis=1).repeat(4, axis=2), dtype=dtype or np.uint16)
