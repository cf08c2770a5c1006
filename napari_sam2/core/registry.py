"""Registry: factories by name, built in or added by other packages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from napari_sam2.core.errors import Sam2Error

T = TypeVar("T")


class Registry(Generic[T]):
    """Factories by name.

    Other packages add theirs in the entry point group ``napari_sam2.<kind>``.

    Parameters
    ----------
    kind
        What the factories make; also the name of the entry point group.
    error
        Raised for unknown names.
    old_kind
        Former name of the entry point group. It is still read.
    old_names
        Former names of factories, with the present ones. They are accepted, and not listed.
    """

    def __init__(
        self,
        kind: str,
        error: type[Sam2Error] = Sam2Error,
        *,
        old_kind: str = "",
        old_names: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self._error = error
        self._groups = [f"napari_sam2.{name}" for name in (old_kind, kind) if name]
        self._old_names = dict(old_names or {})
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
        """Factory of that name.

        There is no fallback: raises the registry's error, which lists the known names, if there is
        none.
        """
        known = {**self._find_entry_points(), **self._factories}
        present = name if name in known else self._old_names.get(name, name)
        if present not in known:
            raise self._error(
                f"no {self.kind} is called {name!r}: expected one of {', '.join(sorted(known))}"
            )
        return known[present]

    def __contains__(self, name: object) -> bool:
        return name in self._old_names or name in set(self)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({**self._find_entry_points(), **self._factories}))

    def _find_entry_points(self) -> dict[str, Callable[..., T]]:
        return {
            entry.name: _LazyFactory(entry.load)
            for group in self._groups
            for entry in entry_points(group=group)
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
