"""
One connection of a node: bytes to frames, frames to messages, messages to the core.

Until the other side has said who it is, and proven it where that is asked for, it may send little, must do so soon
(the core sees to that), and is one of few: `Doorstep` bounds the connections that were accepted and have not come
further. When there are too many the oldest goes, not the newest: an honest peer is through within milliseconds, and
whoever wants to keep it out has to be faster than that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mmrepl.errors import FrameError, PeerError
from mmrepl.ports import Connection
from mmrepl.wire.framing import FrameReader
from mmrepl.wire.greeting import shown

if TYPE_CHECKING:
    from mmrepl.runtime.driver import Driver

STRANGER_BYTES = 1024 * 1024
"""So much may come of somebody who has not come through the hello: a hello is a few kilobytes."""


class LinkHandler:
    """One connection, for the transport a handler. Its *number* is what the core knows it by."""

    def __init__(self, driver: Driver, dialled: str) -> None:
        self._driver = driver
        self.dialled = dialled  # the address that we dialled; empty when the other side did
        self._frames = FrameReader(driver.core.limits)
        self.number = driver.next_link()
        self.connection: Connection | None = None
        self.compression: str | None = None
        self.reason = ""
        self.made_ms = 0
        self._bytes = 0  # received while a stranger

    def made(self, connection: Connection) -> None:
        """The stream is open."""
        self.connection = connection
        self._driver.link_made(self)

    def received(self, data: bytes) -> None:
        """Bytes, cut anywhere."""
        driver = self._driver
        is_news = True
        try:
            frames = self._frames.feed(data)
            if frames:
                is_news = driver.messages(self, frames)
            if not driver.core.is_up(self.number):
                self._bytes += len(data)
                if self._bytes > STRANGER_BYTES:
                    raise FrameError(f"{self._bytes} bytes and no hello")
            elif not frames:
                driver.heard(self)
        except PeerError as error:
            self.give_up(f"{type(error).__name__}: {error}")
        if is_news:
            driver.wake()

    def give_up(self, reason: str) -> None:
        """Close, and let people know why."""
        assert self.connection is not None
        self.reason = reason
        self._driver.core.complain(f"{self.connection.peer}: {shown(reason, 300)[1:-1]}")
        self.close(reason)

    def close(self, reason: str) -> None:
        """Close; what was queued may still leave."""
        self.reason = reason
        if self.connection is not None:
            self.connection.close()

    def lost(self, reason: str) -> None:
        """The stream is gone."""
        self._driver.link_lost(self, self.reason or reason)


class Doorstep:
    """Connections that were accepted and have not come through the hello, oldest first; at most *most*."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[int, LinkHandler] = {}
        self.turned_away_count = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[int]:
        """Their numbers."""
        return iter(self._waiting)

    def add(self, handler: LinkHandler) -> LinkHandler | None:
        """One more; returns the one that has to go for it, if there are too many."""
        self._waiting[handler.number] = handler
        if len(self._waiting) <= self._most:
            return None
        self.turned_away_count += 1
        return self._waiting.pop(next(iter(self._waiting)))

    def left(self, number: int) -> None:
        """It has come in, or gone. Unknown numbers are ignored."""
        self._waiting.pop(number, None)
