"""Tensors from files that PyTorch pickled, without running what such a file may ask for."""

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
    """The tensors in a ``.pt`` file: Meta's ``{"model": tensors by name}``, or the tensors by name alone.

    Raises CheckpointError for a file that is cut off, holds other things, or wants code to be run
    (none is).
    """
    content = _load_pickle(path)
    inner = content.get("model", content) if isinstance(content, Mapping) else content
    if isinstance(inner, Mapping) and inner and all(_is_tensor(value) for value in inner.values()):
        return {str(name): tensor for name, tensor in inner.items()}
    raise CheckpointError(
        f"{path}: holds {_summarise_content(content)}; expected tensors by name, or {{'model': tensors by "
        f"name}}"
    )


def _load_pickle(path: Path) -> Any:
    import torch

    try:
        with (
            warnings.catch_warnings(),
            path.open("rb") as file,
        ):  # a file: by its path, torch goes by the suffix
            warnings.simplefilter("ignore")  # about pickle protocols; what cannot be read raises
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
            f"{path}: cut off, or no checkpoint ({reason}); get it again"
        ) from error


def _make_pickle_error(path: Path, reason: str) -> CheckpointError:
    """A pickle names the code it wants; one that names none is no pickle, or a damaged one."""
    asked = _CODE_PATTERN.search(reason)
    if asked is None:
        return CheckpointError(f"{path}: damaged, or no checkpoint of PyTorch; get it again")
    return CheckpointError(
        f"{path}: wants to run code when it is opened ({asked[1]}); it was refused and nothing "
        "was run. "
        "Expected tensors only: ask its author for the weights alone, best as safetensors"
    )


def _is_tensor(value: object) -> bool:
    from torch import Tensor

    return isinstance(value, Tensor)


def _summarise_content(content: object) -> str:
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    names = [repr(str(key)) for key in content][:5]
    return f"{len(content)} things ({', '.join(names)}{', …' if len(content) > len(names) else ''})"
