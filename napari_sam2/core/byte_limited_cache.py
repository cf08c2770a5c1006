"""ByteLimitedCache: values that can be computed again, within a budget of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

DEFAULT_BYTES = 1 << 30

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class ByteLimitedCache(Generic[_K, _V]):
    """A cache that drops the least recently used values beyond a budget of bytes.

    The value used last always stays. It may be used by several threads.

    Parameters
    ----------
    nbytes
        Size of a value in bytes; called once, when the value is added.
    budget
        Bytes that all values may take together.
    """

    def __init__(self, nbytes: Callable[[_V], int], budget: int = DEFAULT_BYTES) -> None:
        self._compute_nbytes = nbytes
        self._budget = budget
        self._entries: OrderedDict[_K, tuple[_V, int]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def __contains__(self, key: _K) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        """Bytes of all values together."""
        return self._bytes

    def get_or_make(self, key: _K, make: Callable[[], _V]) -> _V:
        """The value of a key; `make` computes it if it is missing, without blocking others."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key][0]
        made = make()
        self._put(key, made, self._compute_nbytes(made))
        return made

    def drop(self, should_drop: Callable[[_K], bool]) -> None:
        """Drop the values of all keys that `should_drop` accepts."""
        with self._lock:
            for key in [each for each in self._entries if should_drop(each)]:
                self._bytes -= self._entries.pop(key)[1]

    def clear(self) -> None:
        """Drop all values."""
        self.drop(lambda _: True)

    def _put(self, key: _K, value: _V, size: int) -> None:
        with self._lock:
            # another thread may have computed it meanwhile
            _, before = self._entries.pop(key, (None, 0))
            self._entries[key] = value, size
            self._bytes += size - before
            while self._bytes > self._budget and len(self._entries) > 1:
                _, (_, oldest) = self._entries.popitem(last=False)
                self._bytes -= oldest
