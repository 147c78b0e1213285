"""
A table as a mapping: what `Replica` and the blocking node show of one table.

A mapping over values that many writers change at once has to say what each verb means here: setting an item goes
over what this replica shows now, as a dict would; a key whose siblings are all tombstones is absent; iteration is
in key order and tolerates writes meanwhile.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, MutableMapping

from mmrepl.causality.context import CausalContext
from mmrepl.ports import Durability
from mmrepl.runtime.outcomes import Receipts, Written, as_level
from mmrepl.store.read import Read
from mmrepl.types import Value
from mmrepl.values import Items


class TableHost(ABC):
    """What a table view needs of its replica or node. Each call is atomic and safe from any thread."""

    @abstractmethod
    def _put(
        self, table: str, key: str, value: Value, context: CausalContext | None, durability: Durability | None
    ) -> Written: ...

    @abstractmethod
    def _put_many(self, table: str, items: Items, durability: Durability | None) -> Receipts: ...

    @abstractmethod
    def _set(self, table: str, key: str, value: Value) -> None:
        """As `_put`, without a receipt."""

    @abstractmethod
    def _delete(
        self, table: str, key: str, context: CausalContext | None, durability: Durability | None
    ) -> Written: ...

    @abstractmethod
    def _payload(self, table: str, key: str) -> bytes | None: ...

    @abstractmethod
    def _get(self, table: str, key: str, default: Value) -> Value: ...

    @abstractmethod
    def _read(self, table: str, key: str) -> Read: ...

    @abstractmethod
    def _keys(self, table: str, first: str | None, end: str | None, *, reverse: bool) -> Iterator[str]: ...

    @abstractmethod
    def _len(self, table: str) -> int: ...

    @abstractmethod
    def _contains(self, table: str, key: object) -> bool: ...


_MISSING: Value = object()  # type: ignore[assignment]


class TableView(MutableMapping[str, Value]):
    """
    One table of a replica, as a mapping from str to values, in key order. Holds no state of its own.

    Values that come out are fresh copies: changing one changes nothing in the store.
    """

    def __init__(self, host: TableHost, name: str) -> None:
        self._host = host
        self._name = name

    @property
    def name(self) -> str:
        """The table's name; empty for the default table."""
        return self._name

    def __getitem__(self, key: str) -> Value:
        value = self._host._get(self._name, key, _MISSING)
        if value is _MISSING:
            raise KeyError(key)
        return value

    def get(self, key: str, default: Value = None) -> Value:  # type: ignore[override]
        """The value of *key*, or *default* when it is absent."""
        return self._host._get(self._name, key, default)

    def __setitem__(self, key: str, value: Value) -> None:
        self._host._set(self._name, key, value)

    def __delitem__(self, key: str) -> None:
        if not self._host._contains(self._name, key):
            raise KeyError(key)
        self._host._delete(self._name, key, None, None)

    def __contains__(self, key: object) -> bool:
        return self._host._contains(self._name, key)

    def __iter__(self) -> Iterator[str]:
        return self._host._keys(self._name, None, None, reverse=False)

    def __reversed__(self) -> Iterator[str]:
        return self._host._keys(self._name, None, None, reverse=True)

    def __len__(self) -> int:
        return self._host._len(self._name)

    def range(self, first: str | None = None, end: str | None = None, *, reverse: bool = False) -> Iterator[str]:
        """Keys in order from *first* on, up to before *end*."""
        return self._host._keys(self._name, first, end, reverse=reverse)

    def clear(self) -> None:
        """Delete every key that is here now, one after another."""
        for key in list(self):
            self._host._delete(self._name, key, None, None)

    def put(
        self,
        key: str,
        value: Value,
        *,
        context: CausalContext | None = None,
        durability: Durability | str | None = None,
    ) -> Written:
        """
        Write *value*; returns its dot and the new context.

        Without a *context* the write replaces what this replica shows now. With the context of a read it replaces
        just what was read, whatever came in since. With `mmrepl.BLIND` it replaces nothing and becomes a sibling.

        Raises:
            InvalidKey, InvalidValue, WrongContext, TooManySiblings: nothing was written.
            StoreFailed: the disk failed; the write may or may not be there after reopening.
        """
        level = None if durability is None else as_level(durability)
        return self._host._put(self._name, key, value, context, level)

    def put_many(self, items: Items, *, durability: Durability | str | None = None) -> Receipts:
        """
        Write many keys at once, in order, each over what this replica shows now; returns their receipts, in order.

        *items*: a mapping, or pairs of key and value. All or none are written, and one commit holds them. Errors as
        `put`.
        """
        return self._host._put_many(self._name, items, None if durability is None else as_level(durability))

    def update(self, other: Items = (), /, **more: Value) -> None:  # type: ignore[override]
        """As of a dict; by `put_many`, so all or none are written."""
        self._host._put_many(self._name, {**dict(other), **more}, None)

    def delete(
        self, key: str, *, context: CausalContext | None = None, durability: Durability | str | None = None
    ) -> Written:
        """Write a tombstone, whether or not there is a value. Arguments and errors as `put`."""
        level = None if durability is None else as_level(durability)
        return self._host._delete(self._name, key, context, level)

    def read(self, key: str) -> Read:
        """Value, siblings, context, and who lost to whom. Absent keys can be read too. Raises ResolverError."""
        return self._host._read(self._name, key)

    def __repr__(self) -> str:
        return f"<TableView {self._name!r} of {self._host!r}: {len(self)} keys>"
