"""ModelCard: the identity of a model, its licence, and the input it expects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from napari_sam2.core.inference_options import Attention, Precision, Windows, rename_attention
from napari_sam2.core.sam2_constants import MEMORY_SLOTS, OBJECT_POINTERS
from napari_sam2.core.window import Window

_FILE_NAMES = {"object_crops": "follows"}
_USUAL_OPTIONS = {"attention": "global", "windows": "whole", "precision": "float32"}


@dataclass(frozen=True)
class ModelCard:
    """The identity of a model, and the input it expects.

    Parameters
    ----------
    name, description, licence, source
        For people; `source` is where the weights were published.
    sha256
        Hash of the file the weights were read from: the identity of the model in every cache and
        every result.
    input_sizes
        Sides of the square input the network can take, in pixels, ascending.
    keep_aspect
        Whether a frame that is not square is padded (True) or stretched (False, as SAM 2 was
        trained).
    object_crops
        Whether the model crops a window around each object instead of reading the whole frame.
    attention, precision, windows
        See `InferenceOptions`. With "local" attention the window of an answer is the part of the
        frame that was read.
    memory_slots
        Memories shown together: one slot of conditioning frames, the rest tracked frames.
    pointers
        Frames whose object pointers are shown.
    training
        The training data and the scores reached; free keys, JSON values only.
    detector_sha256
        Hash of the weights of the detector that belongs to the model, a file of its own
        (``NAME-detector.safetensors``). Empty: it has none, and that of the embedded model is used.
    """

    name: str
    description: str = ""
    licence: str = ""
    source: str = ""
    sha256: str = ""
    input_sizes: tuple[int, ...] = (1024,)
    keep_aspect: bool = False
    object_crops: bool = False
    attention: Attention = "global"
    precision: Precision = "float32"
    windows: Windows = "whole"
    memory_slots: int = MEMORY_SLOTS
    pointers: int = OBJECT_POINTERS
    training: Mapping[str, Any] = field(default_factory=dict)
    detector_sha256: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The card as plain types, under the names that card files use."""
        return to_file_names(asdict(self), _FILE_NAMES)

    @property
    def has_detector(self) -> bool:
        """Whether a detector of its own belongs to the model."""
        return bool(self.detector_sha256)

    @staticmethod
    def rename_fields(values: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a card file under the names of this class, old values renamed."""
        fields = from_file_names(values, _FILE_NAMES)
        if "attention" in fields:
            fields["attention"] = rename_attention(fields["attention"])
        return fields

    @property
    def inference_identity(self) -> dict[str, str]:
        """The weights and options that two models share if they give the same answers."""
        return {
            "model": self.sha256,
            "attention": self.attention,
            "precision": self.precision,
            "windows": self.windows,
        }

    @property
    def title(self) -> str:
        """The name, and the options that are not the usual ones: "nano, precision bfloat16"."""
        unusual = [
            f"{option} {getattr(self, option)}"
            for option, usual in _USUAL_OPTIONS.items()
            if getattr(self, option) != usual
        ]
        return ", ".join([self.name, *unusual])

    def make_frame_window(self, shape: tuple[int, int]) -> Window:
        """The window of a whole (H, W) frame: the smallest input size that does not shrink it.

        The largest input size if all shrink it.
        """
        longest = max(shape)
        size = next((size for size in self.input_sizes if size >= longest), self.input_sizes[-1])
        return Window.full_frame(shape, size, keep_aspect=self.keep_aspect)


def to_file_names(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """`values` under their names in files; `names` maps a name in the code to that in files.

    Files of earlier versions stay valid if a name in the code changes.
    """
    return {names.get(name, name): value for name, value in values.items()}


def from_file_names(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The inverse of `to_file_names`; names of the code are accepted too."""
    in_code = {in_file: name for name, in_file in names.items()}
    return {in_code.get(name, name): value for name, value in values.items()}
