"""Tensors from files that PyTorch pickled. Code in such files is never run."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam2.core.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

_CODE_PATTERN = re.compile(r"(?:GLOBAL|type of class|class) ([\w.]+\.\w+)")


def read_pickled_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a ``.pt`` file by name, also if they are under "model" as in Meta's files.

    Raises CheckpointError if the file is truncated, has other content, or contains code.
    """
    content = _load_pickle(path)
    inner = content.get("model", content) if isinstance(content, Mapping) else content
    if isinstance(inner, Mapping) and inner and all(_is_tensor(value) for value in inner.values()):
        return {str(name): tensor for name, tensor in inner.items()}
    raise CheckpointError(
        f"{path}: contains {_summarise_content(content)}; expected tensors by name, or "
        "{'model': tensors by name}"
    )


def _load_pickle(path: Path) -> Any:
    import torch

    try:
        # An open file, because torch would judge a path by its suffix.
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # about pickle protocols
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _make_pickle_error(path, str(error)) from error
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        UnicodeError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else "it ends too early"
        raise CheckpointError(
            f"{path}: truncated, or not a checkpoint ({reason}); get it again"
        ) from error


def _make_pickle_error(path: Path, reason: str) -> CheckpointError:
    """The error for a pickle that names code to run, or else is damaged."""
    code = _CODE_PATTERN.search(reason)
    if code is None:
        return CheckpointError(f"{path}: damaged, or not a PyTorch checkpoint; get it again")
    return CheckpointError(
        f"{path}: contains code that runs when it is opened ({code[1]}); none of it was run. "
        "Expected only tensors: ask its author for the weights alone, best as safetensors"
    )


def _is_tensor(value: object) -> bool:
    from torch import Tensor

    return isinstance(value, Tensor)


def _summarise_content(content: object) -> str:
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    names = [repr(str(key)) for key in content][:5]
    return f"{len(content)} items ({', '.join(names)}{', …' if len(content) > len(names) else ''})"
