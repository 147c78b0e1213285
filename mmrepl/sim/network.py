"""
A network between nodes: connections over paths that delay, stall, lose, repeat, reorder, flip and cut.

A *path* leads from one node to another, one way, and has its weather. A *connection* is a pair of streams over the two
paths between two nodes. A stream keeps order and loses nothing while it lives: what the path loses is sent again later,
and stalls what follows, or resets the connection. With ``datagrams`` each piece fares for itself instead, and may be
lost, repeated, overtaken or flipped; frames are then read one by one, so that a bad one costs nothing but itself.

A path that is *held* keeps what is sent and delivers it in a burst when it is let go; a connection that is *cut* is
reset. What a node closes is told to the other side behind what was sent before.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Protocol

from attrs import define, field

from mmrepl.sim.world import World

RETRANSMISSION_MS = 200
"""How long a lost piece of a stream keeps the following ones waiting, at first; it doubles."""

RESET_AFTER = 5
"""So many losses of one piece in a row reset the connection."""


@define
class Weather:
    """What a path does to what is sent over it. Chances are between 0 and 1, times in ms."""

    latency: str = "uniform"  # constant, uniform, exponential, tail
    latency_ms: int = 5  # its mean; the tail's 99th percentile is a hundred times that
    loss: float = 0.0
    repeat: float = 0.0
    reorder: float = 0.0
    flip: float = 0.0
    cut: float = 0.0  # that a connection breaks within a piece
    split: float = 0.0  # that a piece arrives in two
    bytes_per_ms: int = 0  # 0: any number
    capacity_bytes: int = 0  # what may be under way at once; 0: any number

    def delay_ms(self, rng: Random) -> int:
        """How long one piece is under way."""
        mean = self.latency_ms
        if self.latency == "constant":
            return mean
        if self.latency == "uniform":
            return 1 + int(rng.random() * 2 * mean)
        if self.latency == "exponential":
            return 1 + min(int(rng.expovariate(1.0) * mean), 50 * mean)
        return mean if rng.random() < 0.985 else mean * 100


@define(eq=False)
class Path:
    """One way from one node to another."""

    weather: Weather = field(factory=Weather)
    holds: int = 0  # how many faults hold it at present
    down: bool = False  # no new connection, and what is sent is gone


class Endpoint(Protocol):
    """What a host offers the network for one side of a connection."""

    def opened(self, link: int, dialled: str) -> None:
        """A connection is there."""

    def arrived(self, link: int, data: bytes) -> None:
        """Bytes came."""

    def broke(self, link: int, reason: str) -> None:
        """The connection is gone."""

    def drained(self, link: int) -> None:
        """The other side has taken something."""


@define(eq=False)
class Stream:
    """One direction of a connection."""

    source: str
    target: str
    link: int  # the number of the connection at the source
    target_link: int  # and at the target
    path: Path
    free_ms: int = 0  # when the next piece may arrive at the earliest
    under_way: int = 0  # pieces planned and not delivered
    buffered_bytes: int = 0  # sent and not delivered
    held: deque[tuple[bytes | str, int]] = field(factory=deque)  # waits, sent when; a str is the reason of an end
    open: bool = True  # the target has not been told of an end


class Network:
    """
    All paths and connections. *datagrams* chooses the fiercer kind; *fired* counts what the weather did.

    Endpoints are entered under the name of their node, and addresses lead to names: they can be swapped.
    """

    def __init__(self, world: World, *, datagrams: bool = False) -> None:
        self.world = world
        self.datagrams = datagrams
        self.fired: Counter[str] = Counter()
        self.sent_count = 0  # pieces
        self.sent_bytes = 0
        self.buffered_bytes_max = 0
        self.sent_ms = 0  # when that was sent which arrives now
        self.endpoints: dict[str, Endpoint] = {}
        self.addresses: dict[str, str] = {}  # address -> name of the node that listens there
        self.dropped: Callable[[str, str, str], None] = lambda _source, _target, _why: None
        self._rng = world.dice("network")
        self._paths: dict[tuple[str, str], Path] = {}
        self._streams: dict[int, Stream] = {}  # by the link at its source
        self._links = count(1)
        self._heard: deque[tuple[str, str, bytes]] = deque(maxlen=256)  # to be said again, long after

    # -- paths

    def path(self, source: str, target: str) -> Path:
        """The way from *source* to *target*."""
        path = self._paths.get((source, target))
        if path is None:
            path = self._paths[source, target] = Path()
        return path

    def paths(self) -> list[tuple[str, str, Path]]:
        """Every path that was used or asked for, in order."""
        return [(source, target, path) for (source, target), path in sorted(self._paths.items())]

    def hold(self, source: str, target: str) -> None:
        """What is sent over the path waits. Holds add up."""
        self.path(source, target).holds += 1

    def let_go(self, source: str, target: str) -> None:
        """One hold less; with the last, all that waits leaves in a burst."""
        path = self.path(source, target)
        if not path.holds:
            return
        path.holds -= 1
        if not path.holds:
            for stream in list(self._streams.values()):
                if stream.path is path:
                    self._flush(stream)

    def cut(self, one: str, other: str, reason: str = "connection reset") -> int:
        """Break every connection between the two; returns how many there were."""
        links = [link for link, stream in self._streams.items() if {stream.source, stream.target} == {one, other}]
        for link in links:
            if link in self._streams:
                self._reset(link, reason)
        return len(links) // 2

    def cut_all(self, name: str, reason: str) -> None:
        """The node *name* is gone: the other sides hear of it as far as the paths let it through."""
        for link, stream in list(self._streams.items()):
            if stream.source == name and link in self._streams:
                self.close(link, reason)

    # -- connections

    def dial(self, source: str, address: str, failed: Callable[[str], None]) -> None:
        """Open a connection from node *source* to whoever listens at *address*; takes a round trip, or fails."""
        target = self.addresses.get(address)
        if target is None or target not in self.endpoints:
            self.world.after(1, failed, f"nobody listens at {address}")
            return
        forth, back = self.path(source, target), self.path(target, source)
        delay = forth.weather.delay_ms(self._rng)
        self.world.after(delay, self._accept, source, target, address, forth, back, failed)

    def _accept(
        self, source: str, target: str, address: str, forth: Path, back: Path, failed: Callable[[str], None]
    ) -> None:
        if forth.down or back.down or forth.holds or back.holds:
            self.world.after(1_000, failed, f"{address} does not answer")
            return
        if target not in self.endpoints or source not in self.endpoints:
            failed(f"nobody listens at {address}")
            return
        ours, theirs = next(self._links), next(self._links)
        self._streams[ours] = Stream(source, target, ours, theirs, forth)
        self._streams[theirs] = Stream(target, source, theirs, ours, back)
        self.endpoints[target].opened(theirs, "")
        if source in self.endpoints:
            self.endpoints[source].opened(ours, address)

    @property
    def connection_count(self) -> int:
        """Connections of which both sides are there."""
        return sum(1 for stream in self._streams.values() if stream.target_link in self._streams) // 2

    def is_open(self, link: int) -> bool:
        """Whether that side of a connection is still there."""
        return link in self._streams

    def other_side(self, link: int) -> str:
        """The node at the other end; empty when the connection is gone."""
        stream = self._streams.get(link)
        return "" if stream is None else stream.target

    def buffered(self, link: int) -> int:
        """Bytes sent over *link* that have not arrived."""
        stream = self._streams.get(link)
        return 0 if stream is None else stream.buffered_bytes

    def send(self, link: int, data: bytes) -> None:
        """Send bytes; after the end of the connection, nothing."""
        stream = self._streams.get(link)
        if stream is None:
            return
        self.sent_count += 1
        self.sent_bytes += len(data)
        self._heard.append((stream.source, stream.target, data))
        stream.buffered_bytes += len(data)
        self.buffered_bytes_max = max(self.buffered_bytes_max, stream.buffered_bytes)
        if stream.path.holds or stream.held:
            stream.held.append((data, self.world.now_ms))
            return
        if self.datagrams:
            self._send_datagram(stream, data)
        else:
            self._send_piece(link, stream, data)

    def close(self, link: int, reason: str) -> None:
        """This side ends the connection. The other side hears of it after what was sent before."""
        stream = self._streams.pop(link, None)
        if stream is None:
            return
        if stream.path.holds or stream.held:
            self._keep(stream, reason, self.world.now_ms)
        else:
            arrival = max(self.world.now_ms + stream.path.weather.delay_ms(self._rng), stream.free_ms)
            self.world.at(arrival, self._end, stream, reason)

    def replay(self, rng: Random) -> bool:
        """Say something again that was said long ago, on a connection of today. Whether there was a chance to."""
        if not self._heard:
            return False
        source, target, data = self._heard[rng.randrange(len(self._heard))]
        for stream in self._streams.values():
            if (stream.source, stream.target) == (source, target) and stream.open:
                self.world.after(1, self._deliver, stream, data, 0, self.world.now_ms)
                return True
        return False

    # -- within

    def _send_piece(self, link: int, stream: Stream, data: bytes) -> None:
        weather, rng = stream.path.weather, self._rng
        now = self.world.now_ms
        delay = weather.delay_ms(rng)
        if weather.loss and rng.random() < weather.loss:
            self.fired["lost"] += 1
            attempts, wait = 1, RETRANSMISSION_MS
            while rng.random() < weather.loss:
                attempts, wait = attempts + 1, wait * 2
            if attempts >= RESET_AFTER:
                self._reset(link, "connection timed out")
                return
            delay += wait
        if weather.capacity_bytes and stream.buffered_bytes > weather.capacity_bytes:
            self.fired["overflow"] += 1
            delay += RETRANSMISSION_MS
        if weather.bytes_per_ms:
            delay += len(data) // weather.bytes_per_ms
            self.fired["slow link"] += 1
        if weather.flip and rng.random() < weather.flip:
            self.fired["flipped"] += 1
            data = _flipped(data, rng)
        arrival = max(now + delay, stream.free_ms)
        stream.free_ms = arrival
        if weather.cut and rng.random() < weather.cut:
            self.fired["cut in frame"] += 1
            data = data[: rng.randrange(len(data))]
            self._plan(stream, arrival, data, len(data))
            self.world.at(arrival + 1, self._reset, link, "connection reset")
            return
        if weather.split and rng.random() < weather.split and len(data) > 1:
            place = rng.randrange(1, len(data))
            later = arrival + rng.randrange(1, 20)
            stream.free_ms = later
            self._plan(stream, arrival, data[:place], place)
            self._plan(stream, later, data[place:], len(data) - place)
            return
        self._plan(stream, arrival, data, len(data))

    def _send_datagram(self, stream: Stream, data: bytes) -> None:
        weather, rng = stream.path.weather, self._rng
        if weather.capacity_bytes and stream.buffered_bytes > weather.capacity_bytes:
            self.fired["overflow"] += 1
            stream.buffered_bytes -= len(data)
            return
        if rng.random() < weather.loss:
            self.fired["lost"] += 1
            stream.buffered_bytes -= len(data)
            self.dropped(stream.source, stream.target, "lost")
            return
        arrival = self.world.now_ms + weather.delay_ms(rng)
        if weather.bytes_per_ms:
            self.fired["slow link"] += 1
            arrival = stream.free_ms = max(arrival, stream.free_ms + len(data) // weather.bytes_per_ms)
        if rng.random() < weather.reorder:
            arrival += rng.randrange(1, 400)
            self.fired["reordered"] += 1
        if rng.random() < weather.repeat:
            self.fired["repeated"] += 1
            late = rng.randrange(1, 30) if rng.random() < 0.8 else rng.randrange(1_000, 8_000)
            self._plan(stream, arrival + late, data, 0)
        if rng.random() < weather.flip:
            self.fired["flipped"] += 1
            self._plan(stream, arrival, _flipped(data, rng), len(data))
            return
        self._plan(stream, arrival, data, len(data))

    def _plan(self, stream: Stream, arrival_ms: int, data: bytes, size: int) -> None:
        self.world.at(arrival_ms, self._deliver, stream, data, size, self.world.now_ms)

    def _deliver(self, stream: Stream, data: bytes, size: int, sent_ms: int) -> None:
        if stream.path.holds:  # it was under way when the path was held
            self._keep(stream, data, sent_ms)
            return
        stream.buffered_bytes -= size
        if not stream.open or stream.path.down:
            return
        if stream.target_link in self._streams:
            endpoint = self.endpoints.get(stream.target)
            if endpoint is not None:
                self.sent_ms = sent_ms
                endpoint.arrived(stream.target_link, data)
        if size and stream.link in self._streams:
            endpoint = self.endpoints.get(stream.source)
            if endpoint is not None:
                endpoint.drained(stream.link)

    def _keep(self, stream: Stream, piece: bytes | str, sent_ms: int) -> None:
        """It waits until the path is let go, also when this side has closed the connection meanwhile."""
        stream.held.append((piece, sent_ms))
        if stream.link not in self._streams:
            self._streams[-stream.link] = stream

    def _flush(self, stream: Stream) -> None:
        """The path is free again: what waited arrives at once, in order."""
        held, stream.held = stream.held, deque()
        arrival = max(self.world.now_ms + 1, stream.free_ms)
        stream.free_ms = arrival
        for piece, sent_ms in held:
            if isinstance(piece, str):
                self.world.at(arrival, self._end, stream, piece)
            else:
                self.world.at(arrival, self._deliver, stream, piece, len(piece), sent_ms)

    def _end(self, stream: Stream, reason: str) -> None:
        """The news of an end has come to the target."""
        if stream.path.holds:
            self._keep(stream, reason, self.world.now_ms)
            return
        self._streams.pop(-stream.link, None)
        if not stream.open:
            return
        stream.open = False
        back = self._streams.pop(stream.target_link, None)
        if back is not None:
            back.open = False
            endpoint = self.endpoints.get(stream.target)
            if endpoint is not None:
                endpoint.broke(stream.target_link, reason)

    def _reset(self, link: int, reason: str) -> None:
        """Both sides hear of it at once."""
        stream = self._streams.pop(link, None)
        if stream is None:
            return
        stream.open = False
        back = self._streams.pop(stream.target_link, None)
        for name, number in ((stream.source, link), (stream.target, stream.target_link)):
            endpoint = self.endpoints.get(name)
            if endpoint is not None and (number == link or back is not None):
                endpoint.broke(number, reason)
        if back is not None:
            back.open = False


def _flipped(data: bytes, rng: Random) -> bytes:
    flipped = bytearray(data)
    flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(flipped)
