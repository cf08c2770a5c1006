"""Write LIF files as Leica's program does: a header in XML, then a block for each image."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

_IDS = {"x": 1, "y": 2, "z": 3, "t": 4}
_MARK, _ITEM = 0x70, 0x2A


def write_lif(
    path: Path, images: dict[str, np.ndarray], axes: str, steps: dict[str, float]
) -> Path:
    """Write uint8 or uint16 images by name, and return the path.

    `axes` is a subset of tczyx that ends in yx; `steps` are in m, and in s along t.
    """
    elements, blocks = [], [_make_block("MemBlock_0", b"")]
    for number, (name, data) in enumerate(images.items(), start=1):
        elements.append(_make_element(name, data, axes, steps, f"MemBlock_{number}"))
        blocks.append(_make_block(f"MemBlock_{number}", np.ascontiguousarray(data).tobytes()))
    root = '<Data><Experiment Path=""/></Data><Memory Size="0" MemoryBlockID="MemBlock_0"/>'
    header = (
        f'<LMSDataContainerHeader Version="2"><Element Name="{path.name}" '
        f'Visibility="1">{root}<Children>{"".join(elements)}'
    )
    text = (header + "</Children></Element></LMSDataContainerHeader>").encode("utf-16-le")
    path.write_bytes(
        struct.pack("<IIBI", _MARK, len(text) + 5, _ITEM, len(text) // 2) + text + b"".join(blocks)
    )
    return path


def _make_block(name: str, content: bytes) -> bytes:
    text = name.encode("utf-16-le")
    head = struct.pack("<IIBQBI", _MARK, len(text) + 14, _ITEM, len(content), _ITEM, len(name))
    return head + text + content


def _make_element(
    name: str, data: np.ndarray, axes: str, steps: dict[str, float], block: str
) -> str:
    strides = dict(zip(axes, np.ascontiguousarray(data).strides, strict=True))
    sizes = dict(zip(axes, data.shape, strict=True))
    bits = 8 * data.dtype.itemsize
    channels = "".join(
        f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="{bits}" '
        'NameOfMeasuredQuantity="" Min="0" Max="1" Unit="" '
        f'LUTName="Gray" IsLUTInverted="0" BytesInc="{number * strides.get("c", 0)}" BitInc="0"/>'
        for number in range(sizes.get("c", 1))
    )
    dimensions = "".join(
        f'<DimensionDescription DimID="{_IDS[axis]}" NumberOfElements="{sizes[axis]}" Origin="0" '
        f'Length="{(sizes[axis] - 1) * steps[axis]}" Unit="{"s" if axis == "t" else "m"}" '
        f'BytesInc="{strides[axis]}" BitInc="0"/>'
        for axis in reversed(axes)
        if axis != "c"
    )
    description = (
        f"<ImageDescription><Channels>{channels}</Channels>"
        f"<Dimensions>{dimensions}</Dimensions></ImageDescription>"
    )
    memory = f'<Memory Size="{data.nbytes}" MemoryBlockID="{block}"/>'
    return (
        f'<Element Name="{name}" '
        f'Visibility="1"><Data><Image>{description}</Image></Data>{memory}<Children/></Element>'
    )
