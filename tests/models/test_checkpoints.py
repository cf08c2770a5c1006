"""Checkpoints of all kinds are read, written, verified and imported; none may run code."""

import errno
import hashlib
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import CheckpointError, FileError, OutputError
from napari_sam2.models.network.configs import Configuration
from napari_sam2.models.network.sam2_network import Sam2Network
from napari_sam2.models.weights import cards, checkpoints, files
from napari_sam2.models.weights.conversion import import_checkpoint
from napari_sam2.models.weights.published import PUBLISHED, PublishedCheckpoint
from napari_sam2.models.weights.transformers_config import set_input_size

SMALL = Configuration(
    width=24, blocks=(1, 2, 3, 1), global_blocks=(5,), memory_layers=2, feed_forward=256
)
"""The architecture of the reference checkpoint in Meta's format."""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(files.CACHE_VARIABLE, str(tmp_path / "cache"))
    return files.get_cache_folder()


@pytest.fixture
def tensors():
    return {
        "a.weight": torch.arange(6.0).reshape(2, 3),
        "a.bias": torch.ones(2, dtype=torch.float16),
    }


@pytest.fixture(scope="module")
def weights():
    """A small SAM 2 with random weights, in half precision."""
    torch.manual_seed(0)
    return {
        key: value.half().contiguous() for key, value in Sam2Network(SMALL).state_dict().items()
    }


def are_equal(one, other):
    return one.keys() == other.keys() and all(
        one[key].dtype == other[key].dtype and torch.equal(one[key], other[key]) for key in one
    )


WAYS = {
    "meta.pt": lambda path, tensors: torch.save({"model": tensors}, path),
    "training.pt": lambda path, tensors: torch.save(
        {"model": tensors, "epoch": 3, "optimizer": {"lr": 0.1}}, path
    ),
    "bare.pth": lambda path, tensors: torch.save(tensors, path),
    "old.pt": lambda path, tensors: torch.save(
        {"model": tensors}, path, _use_new_zipfile_serialization=False
    ),
    "plain.safetensors": lambda path, tensors: save_file(tensors, path),
    "misnamed.pt": lambda path, tensors: save_file(tensors, path),
    "misnamed.safetensors": lambda path, tensors: torch.save({"model": tensors}, path),
}


@pytest.mark.parametrize("kind", WAYS)
def test_tensors_are_read_from_every_kind_of_file(tmp_path, tensors, kind):
    WAYS[kind](tmp_path / kind, tensors)
    read, metadata = checkpoints.read_checkpoint(tmp_path / kind)
    assert are_equal(read, tensors)
    assert metadata == {}


def test_folder_of_transformers_has_its_configuration(tmp_path, tensors):
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text('{"image_size": 256}')
    read, metadata = checkpoints.read_checkpoint(checkpoints.find_checkpoint(tmp_path))
    assert are_equal(read, tensors)
    assert metadata == {"format": "pt", "config": '{"image_size": 256}'}


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_pickle_with_code_is_refused_and_not_run(tmp_path, tensors, legacy):
    proof = tmp_path / "was-run"
    torch.save(
        {"model": tensors, "extra": Malicious(proof)},
        tmp_path / "evil.pt",
        _use_new_zipfile_serialization=not legacy,
    )
    for refuse in (checkpoints.read_checkpoint, import_checkpoint):
        with pytest.raises(
            CheckpointError,
            match=r"contains code that runs when it is opened \(\S*open\); none of it was run",
        ):
            refuse(tmp_path / "evil.pt")
    assert not proof.exists()
    pickle.loads(pickle.dumps(Malicious(proof))).close()  # loading it elsewhere runs the code
    assert proof.exists()


def test_bare_pickle_is_refused_and_not_run(tmp_path):
    proof = tmp_path / "was-run"
    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"model": Malicious(proof)}))
    with pytest.raises(CheckpointError):
        checkpoints.read_checkpoint(tmp_path / "evil.pt")
    assert not proof.exists()


@pytest.mark.parametrize("kind", WAYS)
@pytest.mark.parametrize("part", [0.3, 0.7, 0.99])
def test_truncated_file_is_refused(tmp_path, kind, part):
    WAYS[kind](tmp_path / kind, {"w": torch.zeros(5000)})
    whole = (tmp_path / kind).read_bytes()
    (tmp_path / kind).write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(CheckpointError, match=r"truncated|damaged"):
        checkpoints.read_checkpoint(tmp_path / kind)


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        pytest.param(b"", FileError, "is empty", id="empty"),
        pytest.param(
            b"<!DOCTYPE html><html>",
            CheckpointError,
            "it starts with b'<!DOCTYPE ht'",
            id="web_page",
        ),
        pytest.param(
            b"version https://git-lfs.github.com/spec/v1\n",
            CheckpointError,
            "not a checkpoint",
            id="lfs_pointer",
        ),
        pytest.param(
            b"\x80\x02garbage",
            CheckpointError,
            "damaged, or not a PyTorch checkpoint",
            id="pickle_of_nothing",
        ),
        pytest.param(
            b"\xff\xff\xff\xff\xff\xff\xff\xff{}",
            CheckpointError,
            "not a safetensors file",
            id="header_too_long",
        ),
    ],
)
def test_other_file_is_refused(tmp_path, content, kind, message):
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(kind, match=message):
        checkpoints.read_checkpoint(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param([1, 2], "contains a list", id="list"),
        pytest.param({}, "contains 0 items", id="nothing"),
        pytest.param({"epoch": 3, "lr": 0.1}, "'epoch', 'lr'", id="no_tensors"),
        pytest.param(
            {"model": {"w": torch.zeros(1), "note": "hello"}},
            "expected tensors by name",
            id="not_only_tensors",
        ),
    ],
)
def test_pickle_with_other_content_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=message):
        checkpoints.read_checkpoint(tmp_path / "model.pt")


def test_other_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        checkpoints.read_checkpoint(tmp_path / "model.pt")


def test_written_checkpoint_is_read_with_its_card(tmp_path, tensors):
    card = ModelCard(
        "mine", licence="CC0-1.0", input_sizes=(256,), training={"steps": 10, "on": "nuclei"}
    )
    shared_memory = {**tensors, "again": tensors["a.weight"], "turned": tensors["a.weight"].T}
    path = tmp_path / "out" / "mine.safetensors"
    written = checkpoints.write_checkpoint(
        path, shared_memory, card, metadata={"configuration": "{}"}
    )
    read, metadata = checkpoints.read_checkpoint(path)
    assert are_equal(read, shared_memory)
    assert metadata["configuration"] == "{}"
    assert written.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert checkpoints.verify_checkpoint(path) == written
    path.with_suffix(".json").unlink()
    assert cards.load_card(path) == written
    assert [left.name for left in path.parent.iterdir()] == ["mine.safetensors"]


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), id="system"),
        pytest.param(
            SafetensorError(
                "Error while serializing: I/O error: No space left on device (os error 28)"
            ),
            id="safetensors",
        ),
    ],
)
def test_full_disk_leaves_the_old_file(tmp_path, tensors, monkeypatch, error):
    path = tmp_path / "mine.safetensors"
    checkpoints.write_checkpoint(path, tensors, ModelCard("mine"))
    before = path.read_bytes()

    def full(*_, **__):
        raise error

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OutputError, match="no space left"):
        checkpoints.write_checkpoint(path, {"w": torch.zeros(1)}, ModelCard("mine"))
    assert path.read_bytes() == before
    assert sorted(left.name for left in tmp_path.iterdir()) == ["mine.json", "mine.safetensors"]


def test_verify_refuses_one_changed_byte(tmp_path, tensors):
    path = tmp_path / "mine.safetensors"
    checkpoints.write_checkpoint(path, tensors, ModelCard("mine"))
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    with pytest.raises(CheckpointError, match="the file was changed or damaged"):
        checkpoints.verify_checkpoint(path)


def test_verify_refuses_a_file_of_unknown_hash(tmp_path, tensors):
    torch.save(tensors, tmp_path / "found.pt")
    with pytest.raises(CheckpointError, match="no card has the expected one"):
        checkpoints.verify_checkpoint(tmp_path / "found.pt")


@pytest.mark.parametrize("ask", [checkpoints.find_checkpoint, checkpoints.verify_checkpoint])
def test_error_for_a_model_that_is_not_here_tells_how_to_fetch_it(ask):
    with pytest.raises(FileError, match=r"napari-sam2 models fetch sam2\.1-tiny` \(156 MB\)"):
        ask("sam2.1-tiny")


def publish(monkeypatch, path: Path) -> str:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(
        PUBLISHED,
        "toy",
        PublishedCheckpoint(
            ModelCard("toy", source="https://example.org/a/toy.pt", sha256=sha256), 1
        ),
    )
    return sha256


def test_published_file_from_elsewhere_counts_as_fetched(tmp_path, tensors, cache, monkeypatch):
    torch.save({"model": tensors}, tmp_path / "download (1).pt")
    publish(monkeypatch, tmp_path / "download (1).pt")
    model = import_checkpoint(tmp_path / "download (1).pt")
    assert (model.card.name, model.state, model.path) == ("toy", "fetched", cache / "toy.pt")
    assert checkpoints.verify_checkpoint("toy").sha256 == PUBLISHED["toy"].card.sha256
    assert import_checkpoint(cache / "toy.pt") == model
    with pytest.raises(CheckpointError, match=r"is the published 'toy'.*leave out name"):
        import_checkpoint(cache / "toy.pt", name="mine")


def test_published_file_is_verified_in_any_folder(tmp_path, tensors, monkeypatch):
    torch.save({"model": tensors}, tmp_path / "somewhere.pt")
    publish(monkeypatch, tmp_path / "somewhere.pt")
    assert checkpoints.verify_checkpoint(tmp_path / "somewhere.pt").name == "toy"


@pytest.mark.parametrize("kind", ["meta.pt", "bare.pth", "plain.safetensors"])
def test_imported_model_is_known_by_its_name(tmp_path, weights, cache, kind):
    WAYS[kind](tmp_path / kind, weights)
    model = import_checkpoint(
        tmp_path / kind, name="my nuclei", input_size=512, configuration=SMALL.to_json()
    )
    assert (model.card.name, model.state, model.card.input_sizes) == (
        "my-nuclei",
        "imported",
        (512,),
    )
    assert (
        model.card.source == f"imported from {kind}, SHA-256 "
        f"{hashlib.sha256((tmp_path / kind).read_bytes()).hexdigest()}"
    )
    assert are_equal(
        checkpoints.read_checkpoint(checkpoints.find_checkpoint("my-nuclei"))[0], weights
    )
    assert checkpoints.verify_checkpoint("my-nuclei") == model.card
    assert sorted(path.name for path in cache.iterdir()) == [
        "my-nuclei.json",
        "my-nuclei.safetensors",
    ]


def test_import_of_a_folder_of_transformers_keeps_its_configuration(tmp_path, weights):
    folder = tmp_path / "sam2.1-mine"
    folder.mkdir()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    backbone = {
        "global_attention_blocks": [5],
        "window_size_per_stage": [8, 4, 14, 7],
        "num_attention_heads": 1,
    }
    (folder / "config.json").write_text(
        json.dumps({"image_size": 256, "vision_config": {"backbone_config": backbone}})
    )
    assert import_checkpoint(folder).card.input_sizes == (256,)
    shutil.rmtree(folder)
    assert is_loaded("sam2.1-mine", 256)


def is_loaded(name: str, size: int) -> bool:
    from napari_sam2.models.load import load_model

    return load_model(name, device="cpu").card.input_sizes == (size,)


def test_import_of_metas_own_format(shared_folder):
    model = import_checkpoint(
        shared_folder / "reference" / "meta_format_small.pt",
        input_size=256,
        configuration=SMALL.to_json(),
    )
    assert is_loaded(model.card.name, 256)


def test_same_file_is_imported_again_and_another_is_refused_its_name(tmp_path, weights):
    torch.save(weights, tmp_path / "mine.pt")
    first = import_checkpoint(tmp_path / "mine.pt", configuration=SMALL.to_json())
    again = import_checkpoint(tmp_path / "mine.pt", configuration=SMALL.to_json(), input_size=512)
    assert (first.card.input_sizes, again.card.input_sizes) == ((1024,), (512,))
    torch.save({"model": weights}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="the name 'mine' is taken"):
        import_checkpoint(tmp_path / "other.pt", name="mine", configuration=SMALL.to_json())
    with pytest.raises(CheckpointError, match=r"the name 'sam2\.1-tiny' is taken"):
        import_checkpoint(tmp_path / "other.pt", name="sam2.1-tiny", configuration=SMALL.to_json())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda w: {"conv.weight": torch.zeros(3)},
            "conv.weight|not a SAM 2|lacks",
            id="other_network",
        ),
        pytest.param(
            lambda w: {key: w[key] for key in list(w)[:-3]}, "lacks 3 weights", id="some_missing"
        ),
        pytest.param(
            lambda w: {**w, "extra.weight": torch.zeros(3)}, "extra.weight", id="some_more"
        ),
        pytest.param(
            lambda w: {**w, "no_memory_embedding": torch.zeros(1, 1, 8)},
            "no_memory_embedding",
            id="other_shape",
        ),
    ],
)
def test_import_of_another_network_leaves_nothing_behind(tmp_path, weights, cache, change, message):
    torch.save(change(weights), tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=message):
        import_checkpoint(tmp_path / "odd.pt", configuration=SMALL.to_json())
    assert "odd" not in cards.find_models()
    assert not cache.exists()


@pytest.mark.parametrize("name", ["...", "//", "  "])
def test_import_needs_a_name_of_letters(tmp_path, tensors, name):
    torch.save(tensors, tmp_path / "mine.pt")
    with pytest.raises(CheckpointError, match="expected letters"):
        import_checkpoint(tmp_path / "mine.pt", name=name)


def test_import_of_a_missing_file():
    with pytest.raises(FileError, match="no such file"):
        import_checkpoint("nowhere.pt")


@pytest.mark.parametrize("size", [100, -32])
def test_import_with_an_impossible_input_size_is_refused(tmp_path, weights, size):
    torch.save(weights, tmp_path / "mine.pt")
    with pytest.raises(CheckpointError, match="expected multiples of 32"):
        import_checkpoint(tmp_path / "mine.pt", configuration=SMALL.to_json(), input_size=size)


@pytest.mark.parametrize("written", [512, [512, 512]], ids=["number", "pair"])
def test_input_size_is_read_from_the_config_of_transformers(written):
    metadata = {"config": json.dumps({"image_size": written})}
    assert set_input_size(ModelCard("mine"), metadata, None).input_sizes == (512,)
    assert set_input_size(ModelCard("mine"), metadata, 256).input_sizes == (256,)
