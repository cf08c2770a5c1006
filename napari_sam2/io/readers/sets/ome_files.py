"""OME-TIFF in several files: what belongs to a set, and where its metadata are."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from tifffile import TiffFile

from napari_sam2.core.errors import FileError
from napari_sam2.io.readers.calibration.ome import has_data
from napari_sam2.io.readers.files import check_inside_folder, convert_read_errors, read_utf8_text

COMPANION_SUFFIX = ".companion.ome"

_MAX_LISTED = 3


def resolve_ome_files(path: Path) -> tuple[Path, str | None]:
    """The TIFF file to open, and the OME-XML of its companion; None if it has its own.

    Raises FileError if the file or the companion names a file that is missing, or outside its
    folder.
    """
    if path.name.lower().endswith(COMPANION_SUFFIX):
        companion = path
    else:
        named = _find_companion(path)
        if named is None:
            return path, None
        companion = check_inside_folder(path, named)
        if not companion.is_file():
            raise FileError(
                f"{path}: has its metadata in {named}, which is missing: copy it beside this file"
            )
    xml = read_utf8_text(companion, "OME-XML")
    with convert_read_errors(f"{companion}: cannot be read", "OME-XML"):
        members = _list_names(xml)
    if not members:
        raise FileError(f"{companion}: names no TIFF file: expected the files of its images")
    file = path if path != companion else check_inside_folder(path, members[0])
    check_ome_members(xml, companion)
    return file, xml


def check_ome_members(xml: str, path: Path) -> None:
    """Raise FileError if files that OME-XML names are missing, except the file `path` itself.

    Images of which no file is here, such as the other positions of a copied file, are not read and
    may be missing.
    """
    root = ElementTree.fromstring(xml)
    own = root.get("UUID")
    every = root.findall("{*}Image/{*}Pixels")
    here = [pixels for pixels in every if has_data(pixels, own, path)]
    names = {
        uuid.get("FileName", "")
        for pixels in here or every
        for uuid in pixels.findall("{*}TiffData/{*}UUID")
        if uuid.text != own
    }
    missing = sorted(
        name for name in names if name and not check_inside_folder(path, name).is_file()
    )
    if missing:
        listed = ", ".join(missing[:_MAX_LISTED]) + (", …" if len(missing) > _MAX_LISTED else "")
        raise FileError(
            f"{path}: names {len(names)} files of one image, of which {len(missing)} are missing "
            f"({listed}): copy them beside this file"
        )


def list_ome_members(path: Path) -> set[str]:
    """The names of the files of one OME-TIFF set, by the metadata of one of them; empty if none."""
    with convert_read_errors(f"{path}: cannot be read", "a whole image"):
        if path.name.lower().endswith(COMPANION_SUFFIX):
            return {path.name, *_list_names(read_utf8_text(path, "OME-XML"))}
        if not path.name.lower().endswith((".tif", ".tiff", ".btf", ".tf2", ".tf8")):
            return set()
        file, xml = resolve_ome_files(path)
        if xml is None:
            with TiffFile(file) as tiff:
                xml = tiff.ome_metadata or "<OME/>"
        names = _list_names(xml)
        companion = _find_companion(path)
        return {path.name, *names, *([companion] if companion else [])} if names else set()


def _list_names(xml: str) -> list[str]:
    """The names of the files of all planes, in order, each once."""
    found = ElementTree.fromstring(xml).findall(".//{*}TiffData/{*}UUID")
    return list(dict.fromkeys(uuid.get("FileName", "") for uuid in found if uuid.get("FileName")))


def _find_companion(path: Path) -> str | None:
    """The companion file that a TIFF names; None if it has its own metadata."""
    with (
        convert_read_errors(f"{path}: cannot be read as TIFF", "a whole TIFF"),
        TiffFile(path) as tiff,
    ):
        if not tiff.is_ome or "BinaryOnly" not in (tiff.ome_metadata or ""):
            return None
        element = ElementTree.fromstring(tiff.ome_metadata or "").find("{*}BinaryOnly")
        return None if element is None else element.get("MetadataFile")
