"""
Asking a single-master core: something is begun under a token, and an event answers it.

This is the half of a node that waits: it knows which future or stream belongs to which token, who listens to roles and
members, and what becomes of all of them when the disk fails or the node is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

from mmrepl.errors import AckTimeout, ClosedError, Unavailable, WaitTimeout
from mmrepl.runtime.hosting import Hosting, Outside
from mmrepl.runtime.waiting import Listeners
from mmrepl.single_master import events
from mmrepl.single_master.core import SingleMaster
from mmrepl.wire.compression import available_compressions

Stream: TypeAlias = Callable[["events.Answered | events.Failed | None"], None]
"""Is told every answer of one token, and None after the last one of a turn."""


class Asking(Hosting[SingleMaster]):
    """The waiting half of a node."""

    def __init__(self, name: str, outside: Outside) -> None:
        super().__init__(name, outside)
        self.compression = False
        self._answers: dict[object, asyncio.Future[Any]] = {}
        self._streams: dict[object, Stream] = {}
        self._told: dict[object, Stream] = {}
        self._on_role: Listeners[events.RoleChanged] = Listeners()
        self._on_member: Listeners[events.MemberChanged] = Listeners()

    def on_role(self, listener: Callable[[events.RoleChanged], None]) -> Callable[[], None]:
        """Call *listener* on the event loop when role, term or leader change here; returns what ends that."""
        return self._on_role.add(listener)

    def on_member(self, listener: Callable[[events.MemberChanged], None]) -> Callable[[], None]:
        """Call *listener* on the event loop when a member comes, goes or catches up; returns what ends that."""
        return self._on_member.add(listener)

    async def wait_until(self, condition: Callable[[], bool], what: str, timeout: float = 10.0) -> None:
        """Return when *condition* holds; it is asked again whenever something happens here. Raises WaitTimeout."""
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    await self._waiting.news()
                    _ = self.core  # ClosedError, where nothing will come any more
        except TimeoutError:
            raise WaitTimeout(f"node {self.name!r}: {what} did not happen within {timeout:g} s") from None

    async def wait_for_leader(self, timeout: float = 10.0) -> str:
        """The name of the node that takes writes, as soon as one is known here. Raises WaitTimeout."""
        await self.wait_until(lambda: self.core.leader != "", "the choice of a leader", timeout)
        return self.core.leader

    # -- answers

    async def _answer(self, done: asyncio.Future[Any], timeout: float | None, what: str) -> Any:
        """What answers the token *done*, which was given to the core; as `_ask`, for what was begun already."""
        try:
            if timeout is None:
                return await done
            async with asyncio.timeout(timeout) as waiting:
                return await done
        except TimeoutError:
            if timeout is None or not waiting.expired():
                raise
            if what.startswith("key"):
                raise AckTimeout(
                    f"{what}: not acknowledged within {timeout:g} s; it may still be: do not repeat it blindly",
                    confirmed=0,
                    wanted=1,
                ) from None
            raise Unavailable(f"{what}: no answer within {timeout:.3g} s") from None
        finally:
            if self._answers.pop(done, None) is not None and not done.done() and self._core is not None:
                self._core.stop_waiting(done)

    async def _ask(self, start: Callable[[object], object], timeout: float | None, what: str) -> Any:
        """
        Start something in the core under a token of its own, and wait for the event that answers it.

        Without *timeout* the core's own bounds end the wait.
        """
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[done] = done
        try:
            start(done)
        except BaseException:
            del self._answers[done]
            raise
        self._wake()
        return await self._answer(done, timeout, what)

    def tell_answers(self, token: object, listener: Stream) -> None:
        """Call *listener* with every answer that carries *token*, and with None after the last one of a turn."""
        self._streams[token] = listener

    def _event(self, event: object) -> None:
        if isinstance(event, events.Applied):
            return
        if isinstance(event, events.Answered):
            future = self._answers.pop(event.token, None)
            if future is None:
                self._tell_stream(event)
            elif not future.done():
                future.set_result(event)
            return
        token = getattr(event, "token", None)
        if token is not None:
            future = self._answers.pop(token, None)
            if future is None:
                if isinstance(event, events.Failed):
                    self._tell_stream(event)
            elif not future.done():
                if isinstance(event, events.Failed):
                    future.set_exception(event.error)
                else:
                    future.set_result(event)
        elif isinstance(event, events.RoleChanged):
            self._on_role.tell(event)
        elif isinstance(event, events.MemberChanged):
            if self.compression:
                self._compress(event.name)
            self._on_member.tell(event)

    def _tell_stream(self, event: events.Answered | events.Failed) -> None:
        stream = self._streams.get(event.token)
        if stream is None:
            return  # nobody waits any more
        if isinstance(event, events.Answered):
            if not self._told:
                asyncio.get_running_loop().call_soon(self._turn_told)
            self._told[event.token] = stream
        stream(event)

    def _turn_told(self) -> None:
        told, self._told = self._told, {}
        for stream in told.values():
            stream(None)

    def _compress(self, name: str) -> None:
        for peer in self.core.up():
            both = [how for how in available_compressions() if how in peer.hello.compressions]
            if peer.name == name and both and self._driver is not None:
                assert peer.link is not None
                self._driver.compress(peer.link, both[0])

    def _durable_moved(self, error: Exception | None) -> None:
        if error is not None:
            self._fail_all(error)
        self._waiting.stir()

    def _ended(self, error: ClosedError) -> None:
        self._fail_all(error)

    def _fail_all(self, error: Exception) -> None:
        answers, self._answers = self._answers, {}
        for future in answers.values():
            if not future.done():
                future.set_exception(error)
