"""Registry: things one can ask for by name, built in or brought along by other packages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
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

    def register(self, name: str, factory: Callable[..., T] | str) -> None:
        """Add a factory, or its address "package.module:name", which is imported on use.

        Raises the registry's error if the name is taken.
        """
        if name in self._factories:
            raise self._error(f"{self.kind} {name!r} is known already: choose another name")
        self._factories[name] = (
            _LazyFactory(_make_loader(factory)) if isinstance(factory, str) else factory
        )

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
            entry.name: _LazyFactory(entry.load)
            for entry in entry_points(group=f"napari_sam2.{self.kind}")
        }


class _LazyFactory(Generic[T]):
    """A factory that is imported when it is called."""

    def __init__(self, load: Callable[[], Callable[..., T]]) -> None:
        self._load = load

    def __call__(self, *args: object, **kwargs: object) -> T:
        return self._load()(*args, **kwargs)


def _make_loader(address: str) -> Callable[[], Callable[..., T]]:
    module, name = address.split(":")
    return lambda: getattr(import_module(module), name)
