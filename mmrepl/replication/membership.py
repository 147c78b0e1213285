"""
Who belongs to the cluster.

A map from names to entries, each with an edit number; the higher edit wins, so that maps which were edited apart
become one by exchanging them, in any order. It spreads whole, whenever it has changed: clusters are small.

The *view* is a hash of what counts: the members that are not removed, with their incarnations (one that lost its disk
has lost what it acknowledged), and the addresses that we were told to expect and have not met. Causal stability is
taken over members under one view only (see `mmrepl.causality.stability`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b

import msgspec

from mmrepl.errors import FrameError, UsageError
from mmrepl.types import NodeId
from mmrepl.wire.messages import MemberEntry, Members

EDIT_MAX = 1 << 53
"""No map was ever edited so often."""

TEXT_BYTES = 1024
"""The longest name or address."""

ENTRIES_MAX = 4096
"""Those that were removed count, for they are remembered."""


class Membership:
    """
    The members as one node knows them, itself included. Mutable; saved with the store.

    ``changed`` turns true with every edit, ours or another's; whoever spreads it sets it back.
    """

    def __init__(self, node: NodeId, address: str, expected: Iterable[str] = ()) -> None:
        self.name = node.name
        self._configured = frozenset(expected)
        self.expected = set(expected) - {address}  # addresses that were configured and not met yet
        self.aliases: dict[str, str] = {}  # configured addresses that led to a member -> its name
        self.entries: dict[str, MemberEntry] = {}
        self.changed = False
        self._view: int | None = None  # this and the next two: remembered until something changes
        self._active: list[MemberEntry] | None = None
        self._addresses: list[str] | None = None
        self._set(MemberEntry(node.name, node.incarnation, address, 1, removed=False))

    # -- reading

    def active(self) -> Iterator[MemberEntry]:
        """Members in order of their names, ourselves included."""
        if self._active is None:
            self._active = [entry for _, entry in sorted(self.entries.items()) if not entry.removed]
        return iter(self._active)

    def names(self) -> list[str]:
        """Names of the members, in order."""
        return [entry.name for entry in self.active()]

    def is_member(self, name: str) -> bool:
        """Whether *name* belongs to the cluster."""
        entry = self.entries.get(name)
        return entry is not None and not entry.removed

    def has(self, node: NodeId) -> bool:
        """Whether *node* belongs to the cluster, in this incarnation."""
        entry = self.entries.get(node.name)
        return entry is not None and not entry.removed and entry.incarnation == node.incarnation

    def was_removed(self, name: str, lives: Iterable[NodeId]) -> bool:
        """Whether the node of that name was taken out, in one of its *lives*: the present one, or one it continues."""
        entry = self.entries.get(name)
        return entry is not None and entry.removed and NodeId(name, entry.incarnation) in lives

    @property
    def count(self) -> int:
        """How many members there are, expected ones whom nobody has met included: acknowledgements are of so many."""
        return len(self.names()) + len(self.expected)

    def is_alone(self, but_for: str = "") -> bool:
        """Whether there is nobody but us, and perhaps one of that name."""
        return all(entry.removed or entry.name in (self.name, but_for) for entry in self.entries.values())

    def addresses_of(self, entry: MemberEntry) -> set[str]:
        """Where a member may be found: where it says, and where we were told to look and found it."""
        return {entry.address, *(address for address, name in self.aliases.items() if name == entry.name)} - {""}

    def addresses(self) -> list[str]:
        """Where to find the others: members and whoever is expected, in order."""
        if self._addresses is None:
            known = {entry.address for entry in self.active() if entry.name != self.name and entry.address}
            self._addresses = sorted(known | self.expected)
        return self._addresses

    @property
    def view(self) -> int:
        """Hash of what counts for stability; compared for equality only."""
        if self._view is None:
            members = [(entry.name, entry.incarnation) for entry in self.active()]
            content = msgspec.msgpack.encode((members, sorted(self.expected)))
            self._view = int.from_bytes(blake2b(content, digest_size=8).digest()) >> 1
        return self._view

    # -- changing

    def met(self, node: NodeId, address: str, dialled: str) -> None:
        """A node said hello: it is a member from now on, and whoever was expected at its address has come."""
        self.found(node.name, address)
        self.found(node.name, dialled)
        entry = self.entries.get(node.name)
        if entry is None or entry.removed or (entry.incarnation, entry.address) != (node.incarnation, address):
            edit = 1 if entry is None else entry.edit + 1
            self._set(MemberEntry(node.name, node.incarnation, address, edit, removed=False))

    def found(self, name: str, address: str) -> None:
        """It is *name* who was expected at *address*. It may call its address otherwise: another name of the host."""
        if address in self.expected:
            self.expected.discard(address)
            self._changed()
            if name != self.name:
                self.aliases[address] = name

    def start_over(self, node: NodeId) -> None:
        """
        We have become *node*, and leave whatever cluster we were in for another one.

        Whoever was configured is looked for again: there may be nobody else who knows of us.
        """
        old = self.entries[self.name]
        self.entries = {}
        self.expected = set(self._configured) - {old.address}
        self._set(MemberEntry(node.name, node.incarnation, old.address, old.edit + 1, removed=False))

    def keep(self, nodes: Iterable[NodeId]) -> None:
        """Know of nobody any more but ourselves and such of *nodes* as are members."""
        kept = {self.name, *(node.name for node in nodes if self.has(node))}
        self.entries = {name: entry for name, entry in self.entries.items() if name in kept}
        self.changed = True
        self._changed()

    def became(self, node: NodeId) -> None:
        """We took a new incarnation."""
        old = self.entries[self.name]
        self._set(MemberEntry(node.name, node.incarnation, old.address, old.edit + 1, removed=False))

    def bound(self, address: str) -> None:
        """We listen at *address* now."""
        old = self.entries[self.name]
        if address in self.expected:
            self.expected.discard(address)
            self._changed()
        if old.address != address:
            self._set(MemberEntry(old.name, old.incarnation, address, old.edit + 1, old.removed))

    def remove(self, who: str) -> None:
        """
        Take a member out, by its name, or give up an address that was expected. What it wrote stays.

        Raises UsageError when there is neither.
        """
        if who in self.expected:
            self.expected.discard(who)
            self._changed()
            return
        entry = self.entries.get(who)
        if entry is None or entry.removed:
            raise UsageError(f"no member is called {who!r}; members are {', '.join(self.names())}")
        self._set(MemberEntry(entry.name, entry.incarnation, entry.address, entry.edit + 1, removed=True))

    def merge(self, message: Members) -> None:
        """
        Take in another's map. Raises FrameError for one that is none, or too large: nothing was changed.
        """
        news = [theirs for theirs in message.entries if self.entries.get(theirs.name) != theirs]
        for theirs in news:
            if not 0 <= theirs.edit <= EDIT_MAX or not 0 <= theirs.incarnation < 1 << 63 or not theirs.name:
                raise FrameError(f"a member {theirs.name[:80]!r}~{theirs.incarnation:x} of edit {theirs.edit}")
            if len(theirs.name.encode()) > TEXT_BYTES or len(theirs.address.encode()) > TEXT_BYTES:
                raise FrameError(f"member {theirs.name[:80]!r}: a name or address of more than {TEXT_BYTES} bytes")
        fresh = {entry.name for entry in news} - self.entries.keys()
        if len(self.entries) + len(fresh) > ENTRIES_MAX:
            raise FrameError(f"{len(fresh)} more members than the {ENTRIES_MAX} that a cluster may have had")
        for theirs in news:
            ours = self.entries.get(theirs.name)
            if ours is None or _rank(theirs) > _rank(ours):
                self._set(theirs)

    def reassert(self, node: NodeId, address: str) -> None:
        """
        Say once more who and where we are, if the map has come to say otherwise. That *we* were removed we believe.

        Not at once and not always: were there two nodes of our name, each would contradict the other for ever.
        """
        entry = self.entries[self.name]
        if (entry.incarnation, entry.address) != (node.incarnation, address):
            self._set(MemberEntry(node.name, node.incarnation, address, entry.edit + 1, removed=False))

    def _set(self, entry: MemberEntry) -> None:
        self.entries[entry.name] = entry
        self.changed = True
        self._changed()

    def _changed(self) -> None:
        self._view = self._active = self._addresses = None

    # -- as messages and on disk

    def message(self) -> Members:
        """The whole map."""
        return Members([entry for _, entry in sorted(self.entries.items())])

    def restore(self, data: bytes, continues: Iterable[NodeId] = ()) -> None:
        """
        What `message` was when it was saved. Our own entry of this run wins over the saved one, except that we stay
        removed: in the same incarnation, or in one that *continues* the one which was taken out.

        Nobody is expected any more where a member was found in an earlier run: whoever comes from there in another
        incarnation has lost its memory, and is a stranger.
        """
        own = self.entries[self.name]
        for entry in msgspec.msgpack.decode(data, type=Members).entries:
            if entry.name != self.name:
                self.entries[entry.name] = entry
                if not entry.removed:
                    self.found(entry.name, entry.address)
            elif entry.removed and entry.incarnation == own.incarnation:
                self._set(entry)  # nothing but a new incarnation comes back from that, without the memory of this one
            else:
                removed = entry.removed and NodeId(entry.name, entry.incarnation) in continues
                self._set(MemberEntry(own.name, own.incarnation, own.address, entry.edit + 1, removed))
        self._changed()


def _rank(entry: MemberEntry) -> tuple[int, bool, int, str]:
    return entry.edit, entry.removed, entry.incarnation, entry.address
