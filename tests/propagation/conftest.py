"""Sessions of the toy model on scenes whose truth is known."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from napari_sam2.propagation.session import Session, SessionSettings
from napari_sam2.testing.scenes import Scene
from napari_sam2.testing.toy import ToyModel

Start = Callable[..., Session]


@pytest.fixture
def open_session() -> Iterator[Start]:
    """Open sessions; all are closed at the end."""
    opened = []

    def _start(scene: Scene, model: ToyModel | None = None, **settings: object) -> Session:
        session = Session(scene.video, model or ToyModel(), settings=SessionSettings(**settings))
        opened.append(session)
        return session

    yield _start
    for session in opened:
        session.close()


def labels(session: Session) -> np.ndarray:
    """All label planes of a session: (frames, H, W)."""
    return np.stack([session.compute_label_plane(frame) for frame in range(len(session.video))])
