"""Exact scenes on disk, and workers that know the toy model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from distributed import LocalCluster
from distributed.security import Security

from napari_sam2.batch import tasks
from napari_sam2.batch.pool import Pool
from napari_sam2.core.inference_options import InferenceOptions
from napari_sam2.testing.scenes import Scene, make_drifting_scene
from napari_sam2.testing.toy import ToyModel


@pytest.fixture(scope="session")
def scene() -> Scene:
    return make_drifting_scene(frames=6)


@pytest.fixture
def write_stacks(tmp_path: Path, scene: Scene) -> Callable[[int], Path]:
    """Writes so many stacks and their prompts into a folder."""

    def write(count: int) -> Path:
        folder = tmp_path / "data"
        (folder / "prompts").mkdir(parents=True)
        for number in range(count):
            np.save(folder / f"s{number}.npy", scene.stack.data)
            rows = [
                (track, 0, "point", *scene.make_click(track, 0).yx[0], 1, "disc")
                for track in scene.tracks
            ]
            table = pd.DataFrame(
                rows, columns=["track", "frame", "kind", "y", "x", "positive", "category"]
            )
            table.to_csv(folder / "prompts" / f"s{number}.csv", index=False)
        return folder

    return write


@pytest.fixture
def loaded_models(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Every model that the workers of this process load, which is the toy model."""
    loaded: list[tuple[str, str]] = []

    def load(name: str, *, options: InferenceOptions) -> Any:
        loaded.append((name, options.device))
        return ToyModel()

    monkeypatch.setattr("napari_sam2.models.load.load_model", load)
    tasks.load_cached_model.cache_clear()
    return loaded


@pytest.fixture
def thread_pool() -> Pool:
    """Workers in this process: quick to start."""
    return Pool(workers=2, options={"processes": False})


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of certificates, which scheduler, worker and client share."""
    pytest.importorskip(
        "cryptography", reason="cryptography is not installed: no certificates can be made"
    )
    folder, made = tmp_path_factory.mktemp("keys"), Security.temporary()
    for name, text in (
        ("ca", made.tls_ca_file),
        ("key", made.tls_client_key),
        ("cert", made.tls_client_cert),
    ):
        (folder / f"{name}.pem").write_text(text)
    return folder


def start_tls_cluster(certificates: Path, **options: Any) -> LocalCluster:
    """One worker behind TLS."""
    roles = {
        f"tls_{role}_{kind}": str(certificates / f"{kind}.pem")
        for role in ("scheduler", "worker", "client")
        for kind in ("key", "cert")
    }
    security = Security(tls_ca_file=str(certificates / "ca.pem"), require_encryption=True, **roles)
    quiet = {"dashboard_address": "127.0.0.1:0", "n_workers": 1, "threads_per_worker": 1}
    return LocalCluster(protocol="tls://", host="127.0.0.1", security=security, **quiet, **options)
