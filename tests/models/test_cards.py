"""Cards: the known models, and the model in a file."""

import hashlib
import json
import re
import subprocess
import sys
from importlib.metadata import EntryPoint

import numpy as np
import pytest
from safetensors.numpy import save_file

from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import CheckpointError, FileError, UnknownModelError
from napari_sam2.models.weights import card_files, cards, files
from napari_sam2.models.weights.published import PUBLISHED


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(files.CACHE_VARIABLE, str(tmp_path / "cache"))
    return files.get_cache_folder()


def save_checkpoint(path, *, card=None, metadata=None):
    """A safetensors file of three numbers, with a card beside it if one is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"w": np.arange(3.0)}, path, metadata=metadata)
    if card is not None:
        path.with_suffix(".json").write_text(
            card if isinstance(card, str) else card_files.card_to_json(card)
        )
    return path


def test_all_published_sizes_of_both_versions_are_known():
    sizes = ["tiny", "small", "base-plus", "large"]
    assert list(PUBLISHED) == [
        f"{version}-{size}" for version in ("sam2.1", "sam2") for size in sizes
    ]
    assert set(PUBLISHED) <= set(cards.find_models())


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_checkpoint_can_be_verified_and_has_a_licence(name):
    published = PUBLISHED[name]
    assert re.fullmatch("[0-9a-f]{64}", published.card.sha256)
    assert re.fullmatch(
        r"https://dl\.fbaipublicfiles\.com/segment_anything_2/(092824/sam2\.1|072824/sam2)_hiera_\w+\.pt",
        published.url,
    )
    assert published.card.licence == "Apache-2.0"
    assert published.card.input_sizes == (1024,)


def test_no_two_published_checkpoints_share_a_hash_a_size_or_a_file():
    for values in (
        {p.card.sha256 for p in PUBLISHED.values()},
        {p.size_bytes for p in PUBLISHED.values()},
        {p.filename for p in PUBLISHED.values()},
    ):
        assert len(values) == len(PUBLISHED)


def test_embedded_model_is_listed_first_and_matches_its_card():
    first = next(iter(cards.find_models().values()))
    assert (first.card.name, first.state) == ("nano", "embedded")
    card = cards.load_card("nano")
    assert card.licence
    assert card.sha256 == hashlib.sha256(first.path.read_bytes()).hexdigest()


def test_files_in_the_cache_change_the_state_of_a_model(cache):
    save_checkpoint(cache / "mine.safetensors", card=ModelCard("mine"))
    save_checkpoint(cache / "broken.safetensors", card="{")
    save_checkpoint(cache / "nobody.safetensors")
    (cache / PUBLISHED["sam2.1-tiny"].filename).write_bytes(b"weights")
    states = {name: model.state for name, model in cards.find_models().items()}
    assert states["mine"] == "imported"
    assert states["broken"] == "damaged"
    assert states["sam2.1-tiny"] == "fetched"
    assert states["sam2.1-small"] == "available"
    assert "nobody" not in states


def test_plugin_is_listed_without_being_loaded(monkeypatch):
    entry = EntryPoint("theirs", "no_such_module:model", cards.ENTRY_POINT_GROUP)
    monkeypatch.setattr(
        cards, "entry_points", lambda group: [entry] if group == cards.ENTRY_POINT_GROUP else []
    )
    assert cards.find_models()["theirs"].state == "plug-in"


def test_imported_model_cannot_replace_a_published_one(cache):
    save_checkpoint(cache / "other.safetensors", card=ModelCard("sam2.1-tiny", sha256="0" * 64))
    assert cards.find_models()["sam2.1-tiny"].card == PUBLISHED["sam2.1-tiny"].card


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        pytest.param(
            "sam2.1-tinny", UnknownModelError, "did you mean 'sam2.1-tiny'?", id="misspelt"
        ),
        pytest.param("resnet", UnknownModelError, "expected one of .*sam2-large", id="unknown"),
        pytest.param("", UnknownModelError, "no model is called ''", id="empty"),
        pytest.param("missing.pt", FileError, "no such file", id="missing_file"),
        pytest.param("some/folder", FileError, "no such file", id="missing_folder"),
    ],
)
def test_unknown_name_is_refused_with_the_known_ones(name, kind, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=message):
        cards.load_card(name)


def test_name_means_the_model_even_if_a_folder_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sam2.1-tiny").mkdir()
    assert cards.load_card("sam2.1-tiny") == PUBLISHED["sam2.1-tiny"].card


@pytest.mark.parametrize("position", ["beside", "inside", "nowhere"])
def test_card_of_a_file_is_found_beside_it_and_inside_it(tmp_path, position):
    card = ModelCard("mine", licence="CC0-1.0", input_sizes=(256, 512), training={"steps": 3})
    inside = {card_files.CARD_KEY: card_files.card_to_json(card)} if position == "inside" else None
    path = save_checkpoint(
        tmp_path / "file.v2.safetensors",
        card=card if position == "beside" else None,
        metadata=inside,
    )
    found = cards.load_card(path)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.name == ("file.v2" if position == "nowhere" else "mine")
    assert found.input_sizes == ((1024,) if position == "nowhere" else (256, 512))


def test_file_that_differs_from_its_card_is_refused(tmp_path):
    path = save_checkpoint(tmp_path / "mine.safetensors", card=ModelCard("mine", sha256="0" * 64))
    with pytest.raises(CheckpointError, match="the file was changed or damaged"):
        cards.load_card(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("{", "not valid JSON", id="truncated"),
        pytest.param('{"name": "mine", "colour": "red"}', "colour", id="unknown_field"),
        pytest.param('{"name": "mine", "input_sizes": "big"}', "input_sizes", id="wrong_type"),
        pytest.param('{"description": "nameless"}', "name", id="no_name"),
        pytest.param("[1, 2]", "not a model card", id="not_an_object"),
        pytest.param("\udc80", "cannot be read", id="not_utf8"),
    ],
)
def test_invalid_card_is_refused(tmp_path, text, message):
    path = save_checkpoint(tmp_path / "mine.safetensors")
    path.with_suffix(".json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=message):
        cards.load_card(path)


def test_folder_gives_a_model_its_whole_name(tmp_path):
    save_checkpoint(tmp_path / "sam2.1-hiera-tiny" / "model.safetensors")
    (tmp_path / "sam2.1-hiera-tiny" / "config.json").write_text(
        json.dumps({"model_type": "sam2_video"})
    )
    assert cards.load_card(tmp_path / "sam2.1-hiera-tiny").name == "sam2.1-hiera-tiny"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model.safetensors.index.json", "split over several files"),
        ("notes.txt", "contains no model"),
    ],
)
def test_folder_without_a_model_is_refused(tmp_path, content, message):
    (tmp_path / content).touch()
    with pytest.raises(FileError, match=message):
        cards.load_card(tmp_path)


def test_cache_folder_is_set_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_SAM2_CACHE", str(tmp_path / "here"))
    assert files.get_cache_folder() == tmp_path / "here" / "models"
    monkeypatch.setenv("NAPARI_SAM2_CACHE", "")
    assert "napari-sam2" in files.get_cache_folder().parts


def test_embedded_checkpoints_are_found_in_the_package_first(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "_PACKAGE", tmp_path / "napari_sam2")
    assert files.get_embedded_folder() == tmp_path / "checkpoints"
    (tmp_path / "napari_sam2" / "checkpoints").mkdir(parents=True)
    assert files.get_embedded_folder() == tmp_path / "napari_sam2" / "checkpoints"


def test_listing_models_loads_no_network():
    statements = "import sys; from napari_sam2.models.weights import cards; cards.find_models()"
    code = f"{statements}; print({{'torch', 'transformers', 'requests'}} & set(sys.modules))"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "set()"
    )
