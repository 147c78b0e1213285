"""
What a node of either mode answers to the client port in the same way: waiting, members, drills, backups.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from mmrepl.errors import UsageError
from mmrepl.types import Limits


class Kept(Protocol):
    """A node, as far as both modes have it."""

    name: str
    limits: Limits
    path: Path | None

    async def news(self) -> None:
        """Return when something has happened."""

    def members(self) -> list[dict[str, Any]]:
        """A row each."""

    def status(self) -> dict[str, Any]:
        """Everything."""

    def block(self, peer: str) -> None:
        """Cut a connection, for drills."""

    def unblock(self, peer: str | None = None) -> None:
        """Let it be."""

    async def backup(self, target: str | Path) -> None:
        """Copy the file."""


class KeeperBackend(ABC):
    """The half of `mmrepl.runtime.resp.backend.Backend` that does not depend on the mode."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    @property
    def name(self) -> str:
        """The node's name."""
        return self._kept.name

    @property
    def limits(self) -> Limits:
        """Of keys and values."""
        return self._kept.limits

    @abstractmethod
    def has_applied(self, token: bytes) -> bool:
        """Whether this node has applied what *token* stands for."""

    def wait_applied(self, token: bytes, timeout_ms: int) -> asyncio.Future[bool]:
        """Whether it has, as soon as it has."""
        return asyncio.ensure_future(self._wait_applied(token, timeout_ms))

    async def _wait_applied(self, token: bytes, timeout_ms: int) -> bool:
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                while not self.has_applied(token):
                    await self._kept.news()
        except TimeoutError:
            return False
        return True

    def members(self) -> Sequence[Mapping[str, Any]]:
        """The members, this one included."""
        return self._kept.members()

    def status(self) -> Mapping[str, Any]:
        """The state of the node."""
        return self._kept.status()

    def block(self, peer: str) -> None:
        """Cut the connection with *peer* and keep it cut."""
        self._kept.block(peer)

    def unblock(self, peer: str | None) -> None:
        """Let *peer* in again; None: everybody."""
        self._kept.unblock(peer)

    def backup(self, name: str) -> asyncio.Future[str]:
        """A copy of the node's file beside it."""
        return asyncio.ensure_future(self._backup(name))

    async def _backup(self, name: str) -> str:
        if self._kept.path is None:
            raise UsageError(f"node {self.name!r} is in memory: there is no file to back up")
        target = self._kept.path.resolve().parent / name
        await self._kept.backup(target)
        return str(target)
