"""Registry: things one can ask for by name, built in or brought along by other packages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from napari_sam2.core.errors import Sam2Error

T = TypeVar("T")


class Registry(Generic[T]):
    """Factories by name.

    Other packages add theirs under the entry point group ``napari_sam2.<kind>``.
    """

    def __init__(self, kind: str, error: type[Sam2Error] = Sam2Error) -> None:
        self.kind = kind
        self._error = error
        self._factories: dict[str, Callable[..., T]] = {}

    def register(self, name: str, factory: Callable[..., T]) -> None:
        """Make `factory` known by `name`. Raises where the name is taken."""
        if name in self._factories:
            raise self._error(f"{self.kind} {name!r} is known already: choose another name")
        self._factories[name] = factory

    def get(self, name: str) -> Callable[..., T]:
        """The factory of that name.

        Raises, listing the known ones, where there is none; never falls back.
        """
        known = {**self._find_entry_points(), **self._factories}
        if name not in known:
            raise self._error(
                f"no {self.kind} is called {name!r}: expected one of {', '.join(sorted(known))}"
            )
        return known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({**self._find_entry_points(), **self._factories}))

    def _find_entry_points(self) -> dict[str, Callable[..., T]]:
        return {
            entry.name: _EntryPointFactory(entry.load)
            for entry in entry_points(group=f"napari_sam2.{self.kind}")
        }


class _EntryPointFactory(Generic[T]):
    """An entry point, loaded when it is called."""

    def __init__(self, load: Callable[[], Callable[..., T]]) -> None:
        self._load = load

    def __call__(self, *args: object, **kwargs: object) -> T:
        return self._load()(*args, **kwargs)
