"""Options a model is loaded with."""

import logging
from typing import Any

import pytest

from napari_sam2.core import inference_options
from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import ModelError
from napari_sam2.core.inference_options import InferenceOptions, rename_attention


@pytest.mark.parametrize(
    "wrong", [{"attention": "far"}, {"precision": "half"}, {"windows": "pyramid"}], ids=str
)
def test_unknown_option_is_refused(wrong: dict[str, Any]) -> None:
    (name, value), *_ = wrong.items()
    with pytest.raises(ModelError, match=f"{name} '{value}': expected one of"):
        InferenceOptions(**wrong)


def test_override_keeps_what_is_none() -> None:
    options = InferenceOptions("cpu", "local", "bfloat16", "tiles")
    assert options.override() == options
    assert options.override(device="cuda", attention="global") == InferenceOptions(
        "cuda", "global", "bfloat16", "tiles"
    )


@pytest.mark.parametrize(("old", "new"), [("whole", "global"), ("near", "local")])
def test_old_attention_names_are_read_with_one_warning(
    old: Any, new: str, caplog: pytest.LogCaptureFixture
) -> None:
    inference_options.warn_old_attention.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert InferenceOptions(attention=old).attention == new
        assert InferenceOptions(attention=old).attention == new
    (record,) = caplog.records
    assert f"attention {old!r} is now called {new!r}" in record.getMessage()


def test_old_attention_names_in_files_are_read_silently(caplog: pytest.LogCaptureFixture) -> None:
    inference_options.warn_old_attention.cache_clear()
    assert ModelCard.rename_fields({"name": "a", "attention": "near"})["attention"] == "local"
    assert rename_attention("auto") == "auto"
    assert not caplog.records
