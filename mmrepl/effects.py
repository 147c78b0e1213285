"""
What a core wants done, and the order in which it is done.

A core's verbs only change its state. What has to happen outside gathers until the host asks with ``ready(now)``,
and comes as one `Effects` record for everything since the last time: one commit, messages, events, a wake-up time.
(After the ``Ready`` of etcd-io/raft; ours differs in that everything to be sent is already true on disk.)

The rule is *persist, then send, then notify*: what a peer or a waiter hears of has been made durable first (law
L2). The core keeps it by itself: it speaks only of positions that the host has reported back with ``persisted``.
So a host with a slow disk may send at once what it is given while the commit is under way; a host that persists in
the same breath calls `take_turn`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec
from attrs import field, frozen

from mmrepl.ports import Commit, Durability, Storage
from mmrepl.types import Limits
from mmrepl.wire.messages import Hello, Message


class Persist(msgspec.Struct, frozen=True):
    """Make *commit* durable, then report ``persisted(position)`` to the core."""

    commit: Commit
    durability: Durability
    position: int  # end of the log after this commit


class Envelope(msgspec.Struct, frozen=True):
    """A message for the peer at the other end of *link*. The same message object may stand in several envelopes."""

    link: int  # number that the host gave to the connection
    message: object  # one of mmrepl.wire.messages


class Effects(msgspec.Struct, frozen=True):
    """
    Everything that a core wants done after a turn. Empty is the usual answer when nothing is new.

    (Structs, as messages are: one of these is made in every turn of every node.)
    """

    persist: Persist | None = None
    send: tuple[Envelope, ...] = ()
    close: tuple[tuple[int, str], ...] = ()  # links to close after sending, with the reason
    notify: tuple[object, ...] = ()  # events, in order
    wake_at: int | None = None  # monotonic ms at which the core wants ``tick``

    def __bool__(self) -> bool:
        return bool(self.persist or self.send or self.close or self.notify)


NOTHING = Effects()


class Core(Protocol):
    """The part of a core that a host drives."""

    def ready(self, now_ms: int, wall_ms: int, *, may_persist: bool = True) -> Effects:
        """What has gathered since the last call, at monotonic *now_ms*; no commit while one is under way."""

    def persisted(self, position: int) -> None:
        """The log is durable up to *position* (exclusive)."""


class Kept(Protocol):
    """What a core keeps, as its host sees it."""

    @property
    def end(self) -> int:
        """The position behind the last thing written down."""

    @property
    def durable(self) -> int:
        """Everything before this position is durable."""

    def take_persist(self) -> Persist | None:
        """What is not durable yet; None when nothing is left."""


class Met(Protocol):
    """A peer that came through the hello."""

    @property
    def hello(self) -> Hello:
        """What it said."""


class HostedCore(Core, Protocol):
    """A core with peers, as hosts drive it: either of the two modes. Links are numbers that the host gives."""

    @property
    def local(self) -> Kept:
        """What it keeps."""

    @property
    def limits(self) -> Limits:
        """Of frames, buffers, ticks."""

    def connected(self, link: int, dialled: str, now_ms: int, wall_ms: int) -> None:
        """A connection is open; *dialled* is the address, empty when the other side did it."""

    def disconnected(self, link: int, reason: str, now_ms: int) -> None:
        """It is gone."""

    def heard(self, link: int, now_ms: int) -> None:
        """Bytes came that are no message yet."""

    def congested(self, link: int, congested: bool) -> None:
        """The buffer of a connection is full, or no longer."""

    def receive(self, link: int, message: Message, now_ms: int, wall_ms: int) -> bool | None:
        """A message came. False: a host may leave it to the next turn, and need not take one for this."""

    def tick(self, now_ms: int, wall_ms: int) -> None:
        """Time has passed."""

    def is_up(self, link: int) -> bool:
        """Whether the other side came through the hello."""

    def complain(self, text: str) -> None:
        """Something is wrong with somebody, for people to read."""

    def wanted_addresses(self) -> list[str]:
        """Where it wants to be connected."""

    def missing_addresses(self) -> list[str]:
        """Where it wants to be, and is not."""

    def up(self) -> Iterable[Met]:
        """Peers with a connection, in order of their names."""


@frozen
class Turn:
    """What the outside does with the effects of a turn, for hosts that persist in the same breath."""

    storage: Storage
    send: Callable[[Envelope], None]
    close: Callable[[int, str], None] = field(default=lambda _link, _reason: None)
    notify: Callable[[object], None] = field(default=lambda _event: None)


def take_turn(core: Core, outside: Turn, now_ms: int, wall_ms: int) -> int | None:
    """
    Persist, then send, then notify, until nothing is left to do; returns when the core wants to be woken.

    Persisting makes new things sayable, hence the loop: it ends because a core that has said everything about the
    durable part of its log says nothing more. A storage error leaves before anything was sent.
    """
    while True:
        effects = core.ready(now_ms, wall_ms)
        if effects.persist is not None:
            outside.storage.commit(effects.persist.commit, effects.persist.durability)
            core.persisted(effects.persist.position)
        for envelope in effects.send:
            outside.send(envelope)
        for link, reason in effects.close:
            outside.close(link, reason)
        for event in effects.notify:
            outside.notify(event)
        if not effects:
            return effects.wake_at
