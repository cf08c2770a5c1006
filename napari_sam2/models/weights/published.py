"""The checkpoints that Meta publishes: addresses, sizes and SHA-256 hashes."""

from __future__ import annotations

from dataclasses import dataclass

from napari_sam2.core.card import ModelCard

_HOST = "https://dl.fbaipublicfiles.com/segment_anything_2"

# Meta publishes no hashes. Other projects check their downloads from the same addresses against
# these; each is in at least two independent projects. None was recomputed here because no download
# was possible.
# - SAM 2.1: computational-cell-analytics/micro-sam `micro_sam/v2/util.py`, and
#   InterDigitalInc/CompressAI-Vision `scripts/install.sh`;
# - SAM 2: the same file of micro-sam, and mazurowski-lab/SlicerSegmentWithSAM
#   `SegmentWithSAM/SegmentWithSAM.py`.
# The sizes are from two or more download scripts each, which check them too.
_PUBLISHED_FILES = (
    (
        ("sam2.1-tiny", "SAM 2.1, Hiera tiny, 38.9 M parameters", "092824/sam2.1_hiera_tiny.pt"),
        (156_008_466, "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69"),
    ),
    (
        ("sam2.1-small", "SAM 2.1, Hiera small, 46 M parameters", "092824/sam2.1_hiera_small.pt"),
        (184_416_285, "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38"),
    ),
    (
        (
            "sam2.1-base-plus",
            "SAM 2.1, Hiera base plus, 80.8 M parameters",
            "092824/sam2.1_hiera_base_plus.pt",
        ),
        (323_606_802, "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5"),
    ),
    (
        (
            "sam2.1-large",
            "SAM 2.1, Hiera large, 224.4 M parameters",
            "092824/sam2.1_hiera_large.pt",
        ),
        (898_083_611, "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318"),
    ),
    (
        ("sam2-tiny", "SAM 2, Hiera tiny, 38.9 M parameters", "072824/sam2_hiera_tiny.pt"),
        (155_906_050, "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125"),
    ),
    (
        ("sam2-small", "SAM 2, Hiera small, 46 M parameters", "072824/sam2_hiera_small.pt"),
        (184_309_650, "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3"),
    ),
    (
        (
            "sam2-base-plus",
            "SAM 2, Hiera base plus, 80.8 M parameters",
            "072824/sam2_hiera_base_plus.pt",
        ),
        (323_493_298, "d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071"),
    ),
    (
        ("sam2-large", "SAM 2, Hiera large, 224.4 M parameters", "072824/sam2_hiera_large.pt"),
        (897_952_466, "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b"),
    ),
)


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A checkpoint at a public address.

    An empty `card.sha256` means that its hash is not known: a download cannot be verified.
    """

    card: ModelCard
    size_bytes: int

    @property
    def url(self) -> str:
        """Address of the file."""
        return self.card.source

    @property
    def filename(self) -> str:
        """Name of the file there and in the user's cache."""
        return self.url.rsplit("/", 1)[-1]


def _make_published(
    name: str, description: str, path: str, size_bytes: int, sha256: str
) -> PublishedCheckpoint:
    card = ModelCard(
        name,
        description,
        licence="Apache-2.0",
        source=f"{_HOST}/{path}",
        sha256=sha256,
        input_sizes=(1024,),
    )
    return PublishedCheckpoint(card, size_bytes)


PUBLISHED: dict[str, PublishedCheckpoint] = {
    description[0]: _make_published(*description, *hashes)
    for description, hashes in _PUBLISHED_FILES
}
