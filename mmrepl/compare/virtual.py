"""
Coroutines in virtual time: clients that wait for the simulator, without an event loop.

A coroutine that waits awaits a `Later`; whoever fulfils it sends the coroutine on. There is nothing concurrent in it:
things happen in the order in which the world plans them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar, cast

from mmrepl.sim.world import World

T = TypeVar("T")


class Later(Generic[T]):
    """Something that will be known. The first `settle` counts."""

    def __init__(self) -> None:
        self.settled = False
        self._value: T | None = None
        self._then: Callable[[T], None] | None = None

    def settle(self, value: T) -> None:
        """Now it is known; who waits goes on at once."""
        if self.settled:
            return
        self.settled, self._value = True, value
        if self._then is not None:
            self._then(value)

    def then(self, action: Callable[[T], None]) -> None:
        """Call *action* with it as soon as it is known."""
        if self.settled:
            action(cast("T", self._value))
        else:
            self._then = action

    def __await__(self) -> Generator[Later[Any], Any, T]:
        return cast("T", (yield self))


def launch(coroutine: Coroutine[Later[Any], Any, None]) -> None:
    """Let a coroutine run until it waits; what it waits for carries it on. Its errors leave through whoever settles."""

    def go_on(value: object) -> None:
        try:
            waits_for = coroutine.send(value)
        except StopIteration:
            return
        waits_for.then(go_on)

    go_on(None)


def pause(world: World, ms: int) -> Later[None]:
    """Known after *ms*."""
    later: Later[None] = Later()
    world.after(ms, later.settle, None)
    return later
