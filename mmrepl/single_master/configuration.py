"""
Who belongs to the cluster: voters and learners, as entries of the log say.

The latest one in the log counts from the moment it is appended, committed or not (Raft thesis §4.1). A change of one
voter is one entry. A larger one goes through a *joint* configuration, in which both the old and the new voters have to
agree; the leader leaves it as soon as it is committed.

A member is a name *and* an incarnation: a node that came back without its memory answers to the name, but what its
predecessor promised it does not know, so its votes and confirmations do not count until it is added again. Each member
has a *slot* for drawing terms (see `mmrepl.single_master.promotion`), and no two ever have had the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from mmrepl.errors import FrameError, UsageError
from mmrepl.types import NodeId
from mmrepl.wire.greeting import NAME_BYTES

SLOTS = 1024
"""So many members a cluster can ever have had, one after another."""

REMOVED_MAX = 256
"""So many of the latest that were removed are remembered, and refused."""


class Member(msgspec.Struct, array_like=True, frozen=True):
    """One member."""

    name: str
    incarnation: int
    address: str
    slot: int
    candidate: bool = False  # a learner that becomes a voter when it has caught up

    @property
    def node(self) -> NodeId:
        """Name and incarnation."""
        return NodeId(self.name, self.incarnation)


class Configuration(msgspec.Struct, array_like=True, frozen=True):
    """The members at one place of the log. Immutable; changes give new ones."""

    founded: int = 0  # number of the cluster, drawn when it was founded; 0: it was not yet
    members: tuple[Member, ...] = ()  # in order of their names; in a joint configuration those that leave as well
    voters: tuple[str, ...] = ()
    outgoing: tuple[str, ...] = ()  # the voters before; only while the configuration is joint
    leaving: tuple[str, ...] = ()  # members that go when the joint configuration is left
    removed: tuple[tuple[str, int], ...] = ()
    slots: int = 0  # how many slots were given out

    @property
    def sets(self) -> tuple[tuple[str, ...], ...]:
        """The sets of voters of which a majority is needed."""
        return (self.voters, self.outgoing) if self.outgoing else (self.voters,)

    @property
    def electorate(self) -> frozenset[str]:
        """Everybody whose vote may count: where two sets have to agree, those of both."""
        return frozenset(self.voters + self.outgoing)

    @property
    def is_joint(self) -> bool:
        """Whether two sets of voters have to agree."""
        return bool(self.outgoing)

    @property
    def learners(self) -> tuple[str, ...]:
        """Members that have no vote."""
        return tuple(member.name for member in self.members if not self.is_voter(member.name))

    def member(self, name: str) -> Member | None:
        """The member of that name."""
        return next((member for member in self.members if member.name == name), None)

    def has(self, node: NodeId) -> bool:
        """Whether the node, in this incarnation, is a member."""
        name = node.name
        for member in self.members:  # asked of every peer in every turn
            if member.name == name:
                return member.incarnation == node.incarnation
        return False

    def is_voter(self, name: str) -> bool:
        """Whether the member of that name has a vote, in one of the sets."""
        return name in self.voters or name in self.outgoing

    def was_removed(self, node: NodeId) -> bool:
        """Whether the node, in this incarnation, was a member and is none any more."""
        return tuple(node) in self.removed and not self.has(node)

    # -- changes

    def with_change(
        self, add: Iterable[tuple[NodeId, str]], learners: Iterable[tuple[NodeId, str]], remove: Iterable[str]
    ) -> Configuration:
        """
        The configuration with members added (node, address), as voters or learners, and others removed.

        A voter more or less is a plain change, more of them a joint one.

        Raises:
            UsageError: no such member, nobody would be left with a vote, or no slot is left.
        """
        assert not self.is_joint
        members = {member.name: member for member in self.members}
        voters, gone, slots = set(self.voters), list(self.removed), self.slots
        leaving = list(remove)
        for name in leaving:
            if name not in members:
                raise UsageError(f"{name!r} is no member: {', '.join(sorted(members))} are")
            voters.discard(name)
            gone.append((name, members[name].incarnation))
        added = [(node, address, True) for node, address in add]
        added += [(node, address, False) for node, address in learners]
        for node, address, has_vote in added:
            old = members.get(node.name)
            if old is not None and old.incarnation != node.incarnation:
                gone.append((old.name, old.incarnation))
                voters.discard(node.name)
                old = None
            if old is None:
                if slots >= SLOTS:
                    raise UsageError(f"this cluster has had {SLOTS} members, one after another: no more can be added")
                old = Member(node.name, node.incarnation, address, slots)
                slots += 1
            members[node.name] = Member(node.name, node.incarnation, address or old.address, old.slot)
            (voters.add if has_vote else voters.discard)(node.name)
        if not voters:
            raise UsageError("nobody would be left with a vote: add a voter first, or with the same change")
        joint = len(voters ^ set(self.voters)) > 1
        if not joint:
            for name in leaving:
                del members[name]
        return Configuration(
            self.founded,
            tuple(member for _, member in sorted(members.items())),
            tuple(sorted(voters)),
            self.voters if joint else (),
            tuple(sorted(leaving)) if joint else (),
            tuple(gone[-REMOVED_MAX:]),
            slots,
        )

    def with_candidates(self, names: Iterable[str]) -> Configuration:
        """The configuration in which the learners *names* become voters as soon as they have caught up."""
        wanted = set(names)
        members = tuple(
            msgspec.structs.replace(member, candidate=True) if member.name in wanted else member
            for member in self.members
        )
        return msgspec.structs.replace(self, members=members)

    def left(self) -> Configuration:
        """The configuration after this joint one."""
        members = tuple(member for member in self.members if member.name not in self.leaving)
        return msgspec.structs.replace(self, members=members, outgoing=(), leaving=())

    def check(self) -> None:
        """Assert the invariants."""
        names = [member.name for member in self.members]
        assert names == sorted(set(names))
        assert set(self.voters) | set(self.outgoing) <= set(names)
        assert set(self.leaving) <= set(names)
        assert len({member.slot for member in self.members}) == len(names)
        assert all(member.slot < self.slots <= SLOTS for member in self.members)
        assert bool(self.founded) == bool(self.voters)


EMPTY = Configuration()


def founding(number: int, nodes: Mapping[NodeId, str]) -> Configuration:
    """The first configuration of a cluster: nodes with their addresses, all of them voters."""
    ordered = sorted(nodes)
    members = tuple(Member(node.name, node.incarnation, nodes[node], slot) for slot, node in enumerate(ordered))
    return Configuration(number, members, tuple(node.name for node in ordered), slots=len(ordered))


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Configuration)

encode_configuration = _encoder.encode


def decode_configuration(body: bytes | None) -> Configuration:
    """The inverse of `encode_configuration`. Raises FrameError."""
    try:
        found = _decoder.decode(body or b"")
        found.check()
    except (msgspec.MsgspecError, ValueError, AssertionError) as error:
        raise FrameError(f"members that cannot be read: {error}") from error
    if any(not 0 < len(member.name) <= NAME_BYTES or len(member.address) > NAME_BYTES for member in found.members):
        raise FrameError("a member without a name, or with too long a one")
    return found


class History:
    """The configurations that the log holds, and the one before it. Mutable; `current` is the latest of all."""

    def __init__(self, index: int = 0, base: Configuration = EMPTY) -> None:
        self._all: list[tuple[int, Configuration]] = [(index, base)]

    @property
    def current(self) -> Configuration:
        """The latest in the log."""
        return self._all[-1][1]

    @property
    def index(self) -> int:
        """Where it stands."""
        return self._all[-1][0]

    @property
    def before(self) -> Configuration | None:
        """The one before it; None when that is not remembered."""
        return self._all[-2][1] if len(self._all) > 1 else None

    def at(self, index: int) -> tuple[int, Configuration]:
        """Of the entries up to *index*, the latest configuration and where it stands; at least the first remembered."""
        return next((found for found in reversed(self._all) if found[0] <= index), self._all[0])

    def since(self, index: int) -> Iterator[Configuration]:
        """What `at` finds there, and all that were appended after it, in their order."""
        first = self.at(index)[0]
        return (configuration for at, configuration in self._all if at >= first)

    def append(self, index: int, configuration: Configuration) -> None:
        """The entry at *index* changes the members."""
        assert index > self.index
        self._all.append((index, configuration))

    def replace(self, index: int, configuration: Configuration) -> None:
        """A snapshot took the place of the log."""
        self._all = [(index, configuration)]

    def truncate(self, index: int) -> bool:
        """The log was cut off after *index*. Returns whether `current` is another one now."""
        before = len(self._all)
        while self._all[-1][0] > index:
            self._all.pop()
        return len(self._all) < before

    def compact(self, index: int) -> None:
        """The log was cut up to *index*: older configurations than the one that held there are forgotten."""
        while len(self._all) > 1 and self._all[1][0] <= index:
            self._all.pop(0)
