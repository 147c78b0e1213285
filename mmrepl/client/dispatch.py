"""
From a request to an answer: attempt after attempt, until one succeeds, the verdict is to stop, or time is up.

An attempt goes down the order of nodes that the router gives. A redirect is followed at once; a node that is behind
what the session has seen is passed over, and when all are, the request waits at one after the other, for longer each
time. When nobody can serve it now, it waits with back-off, or until the health of some node changes; and has all nodes
looked at each time, or whoever was elected meanwhile would be found at the next regular check.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from attrs import define, field

from mmrepl import errors
from mmrepl.client.endpoint import Endpoint, Settings
from mmrepl.client.requests import Request, Verdict, tell, verdict
from mmrepl.client.routing import Router
from mmrepl.errors import ClosedError, MmreplError, UsageError, WaitTimeout
from mmrepl.ports import Rng
from mmrepl.transport.address import parse_address
from mmrepl.transport.backoff import Backoff
from mmrepl.wire.resp import Failure, Reply, Simple
from mmrepl.wire.resp_errors import error_of

ENDPOINTS_MAX = 64
"""Nodes that a client knows, those included that it was sent to."""

REDIRECTS_MAX = 5
"""Redirects that are followed in a row; then the request waits before it begins again."""

PAUSE_MS_MIN, PAUSE_MS_MAX = 20, 1_000
CATCH_UP_MS_MIN, CATCH_UP_MS_MAX = 50, 2_000
LAST_MS = 40  # with less than this left, nobody is asked to wait any more


@define
class _Course:
    """What has become of a request so far."""

    request: Request
    deadline: float
    node: str = ""  # asked last
    under_way: bool = False  # a write was sent, and its answer is not here
    in_doubt: bool = False  # of an attempt nobody knows whether it wrote; what comes later does not change that
    last: MmreplError | None = None
    redirects: int = 0  # since the last pause
    catch_up_ms: int = CATCH_UP_MS_MIN
    behind: list[str] = field(factory=list)  # nodes that were behind, in this round
    late: MmreplError | None = None  # why, in this round or the one before

    def sending(self) -> None:
        """From now on nobody knows, until an answer says it."""
        self.under_way = self.request.writes

    def answered(self, error: MmreplError) -> None:
        """An attempt has failed."""
        self.under_way = False
        self.last = error
        if self.request.writes and not error.definite:
            self.in_doubt = True

    def told(self, error: MmreplError) -> MmreplError:
        """*error* as the caller gets it: with the call, and the truth about all attempts."""
        error = tell(error, self.node, self.request)
        error.definite = error.definite and not (self.in_doubt or self.under_way)
        return error


class Dispatcher:
    """The nodes of a client, and the way to them. `start` and `close` belong to the running loop."""

    def __init__(self, addresses: Iterable[str], settings: Settings, router: Router, rng: Rng) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self.redirects_count = 0
        self.closed = False
        self._first = list(addresses)
        self._settings = settings
        self._router = router
        self._rng = rng
        self._changed = asyncio.Event()  # replaced whenever it is set

    def start(self) -> None:
        """Begin to look at every node."""
        for address in self._first:
            self._endpoint(address)

    async def looked(self, grace: float) -> None:
        """
        Return when every node was looked at, or one is up and *grace* seconds have passed since.

        Raises UsageError when a node refuses this client and none is up.
        """
        looks = {endpoint.first_look for endpoint in self.endpoints.values()}
        while looks and not self._up():
            _, looks = await asyncio.wait(looks, return_when=asyncio.FIRST_COMPLETED)
        if looks:
            await asyncio.wait(looks, timeout=grace)
        if not self._up():
            self._raise_refusal()

    async def close(self) -> None:
        """End everything. Whoever waits is told. Idempotent."""
        self.closed = True
        self._stir()
        for endpoint in self.endpoints.values():
            endpoint.end()
        for endpoint in self.endpoints.values():
            await endpoint.ended()

    @property
    def mode(self) -> str:
        """Of the cluster, as far as a node that is up has said; empty before that."""
        return next((endpoint.health.role.mode for endpoint in self._up() if endpoint.health.role.mode), "")

    # -- the way

    async def ask(self, request: Request, timeout: float) -> tuple[Reply, str]:
        """The answer, and the node that gave it. Errors are of the family of `mmrepl.errors`, with the call in them."""
        course = _Course(request, asyncio.get_running_loop().time() + timeout)
        try:
            async with asyncio.timeout(timeout):
                return await self._pursue(course)
        except MmreplError as error:
            raise course.told(error) from None
        except TimeoutError:
            raise course.told(self._too_late(course, timeout)) from course.last

    async def _pursue(self, course: _Course) -> tuple[Reply, str]:
        pause = Backoff(PAUSE_MS_MIN, PAUSE_MS_MAX, self._rng)
        waits = 0
        while True:
            changed = self._changed
            course.behind = []
            order = self._order(course.request)
            if not order:  # nobody is known who could: somebody may have been elected since we looked
                self._look_again()
            while order:
                found, moved = await self._attempt(course, order.pop(0), wait_ms=0)
                if found is not None:
                    return found
                if moved:
                    order = [moved, *order]
            if not course.behind:
                course.late = None
            else:
                address = course.behind[waits % len(course.behind)]
                waits += 1
                found, _ = await self._attempt(course, address, wait_ms=self._patience(course, waits))
                if found is not None:
                    return found
                if isinstance(course.last, errors.NodeBehind):
                    continue  # it has waited
            await self._pause(pause.next_ms(), changed)
            course.redirects = 0

    async def _attempt(
        self, course: _Course, address: str, *, wait_ms: int
    ) -> tuple[tuple[Reply, str] | None, str | None]:
        """Ask one node: its answer, or the node to which it sends us, or neither."""
        endpoint, request = self.endpoints[address], course.request
        course.node = address
        try:
            answer = await endpoint.pool.ask(request.encoded(wait_ms), course.sending, exclusive=wait_ms > 0)
            if isinstance(answer, Failure):
                raise error_of(answer)
        except MmreplError as error:
            course.answered(error)
            if self.closed:
                raise
            match verdict(error, request):
                case Verdict.RAISE:
                    raise
                case Verdict.WAIT:
                    course.behind.append(address)
                    course.late = error
                case Verdict.MOVE:
                    return None, self._moved(course, endpoint, getattr(error, "primary", ""))
                case Verdict.NEXT:
                    endpoint.look_again()
            return None, None
        return (answer.text if isinstance(answer, Simple) else answer, address), None

    def _patience(self, course: _Course, waits: int) -> int:
        """
        How long to wait at a node that is behind: longer after every round of all of them.

        Never as long as is left: the answer has to come back, or nobody would know what became of the request.
        """
        if waits % len(course.behind) == 0:
            course.catch_up_ms = min(2 * course.catch_up_ms, CATCH_UP_MS_MAX)
        left_ms = int((course.deadline - asyncio.get_running_loop().time()) * 1000)
        if left_ms < LAST_MS:
            raise TimeoutError
        return min(course.catch_up_ms, left_ms - LAST_MS // 2)

    def _order(self, request: Request) -> list[str]:
        up = self._up()
        views = [endpoint.view for endpoint in up]
        if not up:
            self._raise_refusal()
        return self._router.for_write(views) if request.writes else self._router.for_read(views, request.reads)

    def _moved(self, course: _Course, endpoint: Endpoint, primary: str) -> str | None:
        """*endpoint* takes no writes, and says who does: the address, if it may be followed."""
        self.redirects_count += 1
        course.redirects += 1
        endpoint.presume("replica", 0)
        if primary and course.redirects <= REDIRECTS_MAX and primary != endpoint.address:
            target = self._endpoint(primary)
            if target is not None:
                target.presume("primary", endpoint.health.role.term)
                return primary
        self._look_again()
        return None

    def _look_again(self) -> None:
        named = {endpoint.health.role.primary for endpoint in self._up()}
        for endpoint in self.endpoints.values():
            endpoint.look_again(is_named=endpoint.address in named)

    async def _pause(self, ms: int, changed: asyncio.Event) -> None:
        """Wait for news of the nodes, but not less than a little: news may come fast and not help."""
        await asyncio.sleep(PAUSE_MS_MIN / 1000)
        try:
            async with asyncio.timeout(max(0, ms - PAUSE_MS_MIN) / 1000):
                await changed.wait()
        except TimeoutError:
            pass
        if self.closed:
            raise ClosedError("the client was closed")

    def _too_late(self, course: _Course, timeout: float) -> MmreplError:
        if course.late is not None and not (course.in_doubt or course.under_way):
            return errors.NodeBehind(f"{course.late} (waited {timeout:g} s)")
        known = "; ".join(f"{e.address} {e.health.trouble or 'is up'}" for e in self.endpoints.values())
        why = f"; at last: {course.last}" if course.last is not None else ""
        error = WaitTimeout(f"not done within {timeout:g} s{why} (known nodes: {known})")
        error.definite = True  # but for what the attempts say
        return error

    # -- the nodes

    def _up(self) -> list[Endpoint]:
        return [endpoint for endpoint in self.endpoints.values() if endpoint.health.up]

    def _raise_refusal(self) -> None:
        for endpoint in self.endpoints.values():
            if endpoint.refusal is not None:
                raise UsageError(str(endpoint.refusal))

    def _endpoint(self, address: str) -> Endpoint | None:
        """The node at *address*, perhaps a new one; None for what is no address, and beyond the bound."""
        found = self.endpoints.get(address)
        if found is None and not self.closed and len(self.endpoints) < ENDPOINTS_MAX:
            try:
                parse_address(address)
            except UsageError:
                return None
            found = self.endpoints[address] = Endpoint(address, self._settings, self._rng, self._stir)
        return found

    def _stir(self) -> None:
        """There is news of a node: take in whom it names, wake whoever waits."""
        for endpoint in self._up():
            primary = self._endpoint(endpoint.health.role.primary) if endpoint.health.role.primary else None
            if primary is not None and not primary.health.up:
                primary.look_again(is_named=True)  # it was away; who leads is there
        self._changed.set()
        self._changed = asyncio.Event()
