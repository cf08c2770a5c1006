"""A VideoModel whose network runs on another machine.

Frames and prompts are sent there; compressed masks come back.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import stat
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from distributed import Client, KilledWorker
from distributed.comm.addressing import parse_address, parse_host_port
from distributed.security import Security

from napari_sam2.batch.compressed_array import compress_arrays, decompress_arrays
from napari_sam2.batch.model_server import RESUME_HINT, ModelServer, RemoteFeatures
from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import FileError, ModelError, PlanError, Sam2Error
from napari_sam2.core.inference_options import (
    DEFAULT_ATTENTION,
    Attention,
    InferenceOptions,
    Precision,
    Windows,
)
from napari_sam2.core.result import Embedding, Query, Segment
from napari_sam2.core.stack import Frame
from napari_sam2.core.window import Window

log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 30
_WORKER_TIMEOUT_S = 30  # the nanny of a worker that died needs seconds to restart it
_POLL_S = 5  # interval of checks that the loading worker is alive
_CERTIFICATE_FILES = {
    "tls_ca_file": "ca.pem",
    "tls_client_cert": "cert.pem",
    "tls_client_key": "key.pem",
}


class RemoteModel:
    """A VideoModel that calls a `ModelServer`; embeddings and memories stay on the server.

    `load_remote_model` makes it. Use it as a context manager, or call `close`.
    """

    def __init__(self, client: Client, future: Any, address: str) -> None:
        self._client = client
        self._future = future  # keeps the actor alive
        self._address = address
        self.released: deque[int] = deque()
        self.last_segments: list[Segment] = []
        try:
            self._actor = _wait_for_model(client, future, address)
        except KilledWorker as error:
            raise ModelError(
                f"the worker of {address} died while it loaded the model: read its log; it may "
                "not have enough memory"
            ) from error
        except Sam2Error as error:
            raise type(error)(f"on the worker of {address}: {error}") from error
        self._actor._client, self._actor._future = (
            client,
            future,
        )  # else the actor uses any client of this process
        self.card: ModelCard
        self.card, device = self._await_result("describe")
        self.device = f"{address} ({device})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the server drops all features."""
        self._future.release()
        self._client.close()

    def embed(self, views: Sequence[tuple[Frame, Window]]) -> list[Embedding]:
        """See `VideoModel.embed`; frames are sent once."""
        if not views:
            return []
        features = self.call("embed", compress_arrays(list(views)))
        return [
            Embedding(frame.index, window, self._wrap_features(each))
            for (frame, window), each in zip(views, features, strict=True)
        ]

    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        """See `VideoModel.segment`; prompts are sent, compressed masks come back."""
        if not queries:
            return []
        self.last_segments = decompress_arrays(
            self.call("segment", _strip_local_parts(embedding), compress_arrays(list(queries)))
        )
        return list(self.last_segments)

    def encode_memory(
        self, embedding: Embedding, segments: Sequence[Segment]
    ) -> list[tuple[Any, ...]]:
        """Answers that were just given do not travel again; see `VideoModel.encode_memory`."""
        if not segments:
            return []
        known = {id(segment): index for index, segment in enumerate(self.last_segments)}
        sent = [
            known[id(segment)] if id(segment) in known else compress_arrays(segment)
            for segment in segments
        ]
        return [
            self._wrap_features(each)
            for each in self.call("encode_memory", _strip_local_parts(embedding), sent)
        ]

    def to_arrays(self, features: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
        """Fetch features from the server."""
        return tuple(decompress_arrays(self.call("to_arrays", features[0])))

    def from_arrays(self, arrays: Sequence[np.ndarray]) -> tuple[Any, ...]:
        """Send features to the server."""
        return self._wrap_features(self.call("from_arrays", compress_arrays(list(arrays))))

    def nbytes(self, features: tuple[Any, ...]) -> int:
        """Size of these features on the server, in bytes."""
        return int(features[0].nbytes)

    def count_features(self) -> int:
        """Number of embeddings and memories on the server."""
        return int(self.call("count_features"))

    def _wrap_features(self, features: RemoteFeatures) -> tuple[RemoteFeatures]:
        """Wrap features; the server drops them when they are garbage-collected here."""
        weakref.finalize(features, self.released.append, features.number).atexit = False
        return (features,)

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the server, and tell it which features were dropped here."""
        released = [self.released.popleft() for _ in range(len(self.released))]
        return self._await_result(method, *arguments, released)

    def _await_result(self, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self._actor, method)(*arguments).result()
        except Sam2Error:
            raise
        except (OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "lost" not in str(error):
                raise
            raise ModelError(
                f"the worker of {self._address} is gone ({error}): {RESUME_HINT}"
            ) from error


def _strip_local_parts(embedding: Embedding) -> Embedding:
    """The embedding as it is sent: the server keeps its parts."""
    return replace(embedding, get_or_make_part=None)


def load_remote_model(
    address: str,
    name: str = "nano",
    *,
    device: str = "auto",
    attention: Attention = DEFAULT_ATTENTION,
    precision: Precision = "float32",
    windows: Windows = "whole",
    certificates: Path | str | None = None,
    allow_plain_tcp: bool = False,
) -> RemoteModel:
    """Load a model on a worker of the dask scheduler at `address`.

    Parameters
    ----------
    address
        ``tls://host:port``; ``tcp://`` only on this machine, for example the end of an SSH tunnel.
    name, device, attention, precision, windows
        As in `load_model`, on the other machine.
    certificates
        Folder with ca.pem, cert.pem and key.pem. Default: those of the configuration of dask
        (``distributed.comm.tls``).
    allow_plain_tcp
        Allow ``tcp://`` to another machine: anyone on the network can read the data and run code on
        both machines.

    Raises
    ------
    PlanError
        If the address is not allowed, or no scheduler answers.
    FileError
        If a certificate is missing.
    ModelError
        If the model cannot be loaded there.
    """
    check_address(address, allow_plain_tcp=allow_plain_tcp)
    security = _make_security(address, certificates)
    with ExitStack() as opened:
        try:
            client = opened.enter_context(
                Client(address, timeout=_CONNECT_TIMEOUT_S, set_as_default=False, security=security)
            )
        except (OSError, ValueError) as error:
            raise PlanError(
                f"no scheduler answers at {address}: {error}; start one with `dask scheduler`, "
                "and a worker beside it"
            ) from error
        await_worker(client, address)
        options = InferenceOptions(device, attention, precision, windows)
        model = RemoteModel(
            client, client.submit(ModelServer, name, options, actor=True, pure=False), address
        )
        opened.pop_all()
    return model


def await_worker(client: Client, address: str) -> None:
    """Wait for the first worker; raises PlanError if none comes in time."""
    try:
        client.wait_for_workers(1, timeout=_WORKER_TIMEOUT_S)
    except TimeoutError as error:
        raise PlanError(
            f"the scheduler at {address} has no worker: start one there with `dask worker "
            f"{address}`"
        ) from error


def _wait_for_model(client: Client, future: Any, address: str) -> Any:
    """The actor, once it is loaded; stops waiting if there is no worker left."""
    while True:
        try:
            return future.result(timeout=_POLL_S)
        except TimeoutError:
            await_worker(client, address)


def check_address(address: str, *, allow_plain_tcp: bool = False) -> None:
    """Raise PlanError for an unencrypted address of another machine, unless `allow_plain_tcp`."""
    try:
        scheme, place = parse_address(address)
        host, _ = parse_host_port(place) if scheme in ("tcp", "tls") else (place, 0)
    except ValueError as error:
        raise PlanError(f"{address!r}: {error}; expected tls://host:port") from error
    if scheme == "tls" or (scheme == "tcp" and (allow_plain_tcp or _is_loopback(host))):
        return
    if scheme != "tcp":
        raise PlanError(f"{address!r}: expected tls://host:port")
    raise PlanError(
        f"{address!r}: not encrypted: anyone on the network could read the data and run code on "
        "both machines. Expected tls:// with certificates, or tcp:// to this machine; on a "
        "network you trust, allow it with allow_plain_tcp=True (--plain-tcp)"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _make_security(address: str, folder: Path | str | None) -> Security:
    if folder is None:
        security = Security()
        if address.startswith("tls:") and not security.tls_ca_file:
            raise PlanError(
                f"{address}: needs certificates: a folder with ca.pem, cert.pem and key.pem, or "
                "distributed.comm.tls in the configuration of dask"
            )
        return security
    files = {role: Path(folder) / name for role, name in _CERTIFICATE_FILES.items()}
    missing = [str(path) for path in files.values() if not path.is_file()]
    if missing:
        raise FileError(
            f"{missing[0]}: no such file; expected certificates named "
            f"{', '.join(_CERTIFICATE_FILES.values())} in {folder}"
        )
    key = files["tls_client_key"]
    if os.name == "posix" and key.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        log.warning("%s: other users of this machine may use this key: run `chmod 600` on it", key)
    return Security(require_encryption=True, **{role: str(path) for role, path in files.items()})
