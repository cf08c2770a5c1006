"""Registries have no fallback; errors are one tree."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from napari_sam2.core import errors
from napari_sam2.core.errors import PlanError, Sam2Error
from napari_sam2.core.registry import Registry


def test_unknown_name_lists_the_known_ones() -> None:
    registry: Registry[int] = Registry("numbers", PlanError)
    registry.register("one", lambda: 1)
    assert registry.get("one")() == 1
    assert list(registry) == ["one"]
    with pytest.raises(PlanError, match="no numbers is called 'two': expected one of one"):
        registry.get("two")
    with pytest.raises(PlanError, match="known already"):
        registry.register("one", lambda: 2)


def test_former_names_are_accepted_and_not_listed() -> None:
    registry: Registry[int] = Registry("numbers", PlanError, old_names={"uno": "one"})
    registry.register("one", lambda: 1)
    assert registry.get("uno")() == 1
    assert "uno" in registry and "one" in registry and "two" not in registry
    assert list(registry) == ["one"]


def test_entry_points_of_the_former_group_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = {"napari_sam2.numbers": ["one"], "napari_sam2.figures": ["two"]}

    def find_entry_points(group: str) -> list[EntryPoint]:
        return [EntryPoint(name, "builtins:int", group) for name in groups[group]]

    monkeypatch.setattr("napari_sam2.core.registry.entry_points", find_entry_points)
    registry: Registry[int] = Registry("numbers", PlanError, old_kind="figures")
    assert list(registry) == ["one", "two"]
    assert registry.get("two")("7") == 7


@pytest.mark.parametrize("name", [name for name in dir(errors) if name.endswith("Error")])
def test_every_error_is_a_sam2_error_and_a_builtin(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, Sam2Error)
    assert str(kind("text", frame=3, track=2)) == "track 2, frame 3: text"
    assert kind is Sam2Error or issubclass(
        kind, ImportError | LookupError | OSError | RuntimeError | ValueError
    )


def test_factory_given_by_its_address_is_imported_on_use() -> None:
    registry: Registry[float] = Registry("numbers", PlanError)
    registry.register("root", "math:sqrt")
    registry.register("absent", "no_such_module:function")
    assert list(registry) == ["absent", "root"]
    assert registry.get("root")(4) == 2
    with pytest.raises(ModuleNotFoundError):
        registry.get("absent")()
