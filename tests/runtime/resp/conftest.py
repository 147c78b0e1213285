"""A conversation without sockets, and one with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from mmrepl.runtime.resp.options import ClientOptions
from mmrepl.runtime.resp.server import ClientPort
from mmrepl.runtime.resp.session import Session, Shared
from mmrepl.runtime.resp.table import LOOKUP
from mmrepl.wire.resp import ReplyReader
from tests.runtime.resp.fake import FakeBackend


class Talk:
    """A session, spoken to in words; answers are read back into Python values."""

    def __init__(
        self, backend: FakeBackend, options: ClientOptions | None = None, shared: Shared | None = None
    ) -> None:
        self.backend = backend
        self.shared = shared or Shared(backend, options or ClientOptions(), LOOKUP)
        self.session = Session(self.shared, "127.0.0.1:1")
        self.shared.sessions[self.session.number] = self.session

    def raw(self, *words: str | bytes | int) -> bytes:
        answer = self.session.execute([word if isinstance(word, bytes) else str(word).encode() for word in words])
        assert isinstance(answer, bytes)
        return answer

    def __call__(self, *words: str | bytes | int) -> Any:
        [reply] = ReplyReader().feed(self.raw(*words))
        return reply


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def talk(backend: FakeBackend) -> Talk:
    return Talk(backend)


@pytest.fixture
def talk3(talk: Talk) -> Talk:
    """The same conversation in version 3 of the protocol."""
    talk("HELLO", 3)
    return talk


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Any]]:
    """Starts client ports on loopback; ends them."""
    ports: list[ClientPort] = []

    async def start(backend: FakeBackend, **options: Any) -> ClientPort:
        port = ClientPort(backend, ClientOptions(**options))
        ports.append(port)
        await port.start("127.0.0.1:0")
        return port

    yield start
    for port in ports:
        await port.close()
