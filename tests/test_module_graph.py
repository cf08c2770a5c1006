"""Which modules import which, function-level and type-checking imports included."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import grimp
import pytest

TRAIN, TESTING = "napari_sam2.train", "napari_sam2.testing"


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("napari_sam2", cache_dir=None)


def test_modules_import_each_other_in_one_direction(graph: grimp.ImportGraph) -> None:
    modules = graph.modules - {"napari_sam2"}  # the package resolves its public names lazily
    imports = {module: graph.find_modules_directly_imported_by(module) for module in modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(f"import circle: {' -> '.join(error.args[1])}")


def test_testing_imports_nothing_of_training(graph: grimp.ImportGraph) -> None:
    assert not graph.find_shortest_chains(importer=TESTING, imported=TRAIN)
