"""ModelCard: what a model is, where it comes from, and how it wants its input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from napari_sam2.core.file_names import from_file_names, to_file_names
from napari_sam2.core.window import Window

Attention = Literal["auto", "whole", "near"]
Precision = Literal["float32", "bfloat16", "float16"]
Windows = Literal["whole", "tiles"]

DEFAULT_ATTENTION: Attention = "auto"
"""What is taken where nobody says: "auto" moved no accuracy set by an IoU of more than 0.003 (docs/benchmarks.md)."""


_FILE_NAMES = {"object_crops": "follows"}


@dataclass(frozen=True)
class ModelCard:
    """What a model is.

    Parameters
    ----------
    name, description, licence, source
        For people; `source` is where the weights were published.
    sha256
        Of the file the weights were read from: the identity of the model in every cache and every
        result.
    input_sizes
        Sides of the square input the network can take, in pixels, ascending.
    object_crops
        Whether each track is looked at through a Window of its own that follows it, and not through
        that of the frame.
    keep_aspect
        Whether a frame that is no square is padded (True) or stretched (False, as SAM 2 was
        trained).
    attention
        "whole": tracks are looked at by the whole input. "near": those that are carried along by
        the part of it around them, whose cost is that of the object and not of the frame. The
        window of an answer is then that part. "auto": "near" for those tracks that are seen the
        same so, which is looked up after each prompt, else "whole".
    precision
        What its network computes in; what it gives is float32 always.
    windows
        "whole": each frame is one input. "tiles": where that shows an object too small, it is
        looked at by a finer part of the frame.
    memory_slots
        Memories shown at once: one for conditioning frames and the rest for the frames just walked
        (SAM 2: 7).
    pointers
        Frames whose object pointers are shown (SAM 2: 16).
    training
        What it was trained or fine-tuned on, and how it did: free words and figures, JSON only.
    """

    name: str
    description: str = ""
    licence: str = ""
    source: str = ""
    sha256: str = ""
    input_sizes: tuple[int, ...] = (1024,)
    keep_aspect: bool = False
    object_crops: bool = False
    attention: Attention = "whole"
    precision: Precision = "float32"
    windows: Windows = "whole"
    memory_slots: int = 7
    pointers: int = 16
    training: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain types, by the names that card files use."""
        return to_file_names(asdict(self), _FILE_NAMES)

    @staticmethod
    def rename_fields(values: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a card file by the names of this class."""
        return from_file_names(values, _FILE_NAMES)

    @property
    def inference_identity(self) -> dict[str, str]:
        """What two models have in common that give the same answers: their weights, and how they look and compute."""
        return {
            "model": self.sha256,
            "attention": self.attention,
            "precision": self.precision,
            "windows": self.windows,
        }

    @property
    def title(self) -> str:
        """Its name, and where it looks or computes in another way than most: "nano, precision bfloat16"."""
        usual = {"attention": "whole", "windows": "whole", "precision": "float32"}
        return ", ".join(
            [
                self.name,
                *(
                    f"{how} {getattr(self, how)}"
                    for how, most in usual.items()
                    if getattr(self, how) != most
                ),
            ]
        )

    def frame_window(self, shape: tuple[int, int]) -> Window:
        """The Window of a whole frame of (H, W): the smallest input that does not shrink it, else the largest there is."""
        longest = max(shape)
        size = next((size for size in self.input_sizes if size >= longest), self.input_sizes[-1])
        return Window.full_frame(shape, size, keep_aspect=self.keep_aspect)
