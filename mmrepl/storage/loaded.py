"""
What a storage found when it was opened, as a plain value: the `Loaded` of the port, for every storage of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from attrs import field, frozen


@frozen
class LoadedStore:
    """Meta and doubt are there at once; segments and batches are read as they are asked for."""

    meta: Mapping[str, bytes]
    doubt: str | None = None
    _segments: Callable[[], Iterator[tuple[int, bytes]]] = field(default=lambda: iter(()), repr=False)
    _batches: Callable[[], Iterator[tuple[int, bytes]]] = field(default=lambda: iter(()), repr=False)

    def segments(self) -> Iterator[tuple[int, bytes]]:
        """Settled segments, by number. Raises StoreCorrupt at the first damaged one."""
        return self._segments()

    def batches(self) -> Iterator[tuple[int, bytes]]:
        """The tail of the log, by position. Raises StoreCorrupt at the first damaged one."""
        return self._batches()
