"""
A few stores with their disks, run through a script of steps beside two models that keep everything.

A *script* is a list of steps, each a kind and a few small numbers, so that Hypothesis can make it shorter and a seed
can make a thousand of them. A `World` takes the steps one by one and, after each, compares every key of the store it
touched with

- the *model* of tests/properties/histories.py: for each write, the set of writes that its writer had seen;
- the *twin*: `CausalContainer`, given every operation that has arrived, in the order in which they were made.

At the end everything is exchanged, then every store is opened anew from its disk, and all of them must hold the same.

Constants that decide where frames, segments, chunks and rows are divided are made small, so that a script of a few
dozen steps crosses every such border: see `borders`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final, NamedTuple, TypeAlias
from unittest import mock

from hypothesis import strategies as st

from mmrepl.causality.container import CausalContainer
from mmrepl.causality.context import BLIND, CausalContext
from mmrepl.causality.dot import Dot
from mmrepl.causality.stability import AckMatrix
from mmrepl.causality.version_vector import EMPTY, VersionVector
from mmrepl.errors import DeltaGap, LogTruncated
from mmrepl.log import columns as columns_module
from mmrepl.log import oplog as oplog_module
from mmrepl.log.operation import Operation
from mmrepl.ports import Durability
from mmrepl.replication import local as local_module
from mmrepl.replication.local import LocalCore
from mmrepl.replication.opening import open_core
from mmrepl.resolvers import Callback, KeepSiblings, LastWriterWins, Sibling
from mmrepl.runtime.outcomes import written
from mmrepl.storage.memory import MemoryDisk, MemoryStorage
from mmrepl.store import journal as journal_module
from mmrepl.store import snapshot as snapshot_module
from mmrepl.store.read import read
from mmrepl.store.snapshot import Capture
from mmrepl.values import encode
from mmrepl.wire import codec
from mmrepl.wire.messages import Delta, Snapshot
from tests.properties.histories import Model, Write

TABLES: Final = {"latest": LastWriterWins(), "all": KeepSiblings(), "sum": Callback(sum, name="sum")}
PLACES: Final = (("latest", "j"), ("latest", "k"), ("all", "j"), ("sum", "j"))
SITES: Final = ("p", "q", "r")


class Difference(AssertionError):
    """A store does not hold what the models hold."""


class Step(NamedTuple):
    """What happens, and where; each number counts modulo what there is."""

    kind: str
    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0


Script: TypeAlias = list[Step]

LOSING: Final = {
    "put": 9, "read": 2, "send": 7, "late": 2, "snapshot": 2, "commit": 6, "begin": 2, "cut": 2, "restart": 3,
    "power": 2, "jump": 1,
}  # fmt: skip
"""Everything but forgetting: power may fail, and what was not synced is lost with it."""

FORGETTING: Final = {
    "put": 8, "read": 4, "send": 14, "late": 1, "snapshot": 2, "commit": 8, "begin": 1, "cut": 2, "restart": 3,
    "jump": 1, "forget": 8, "away": 1, "back": 1,
}  # fmt: skip
"""
With forgetting, while one site or another is no member. What was acknowledged stays: every commit is synced.

Who is no member writes nothing, and what it had written is with the others when it goes (the HAZARD of
`CausalContainer.forget`; the networked core lets it rejoin instead).
"""


def random_script(weights: dict[str, int], seed: int, length: int = 60) -> Script:
    """The script of a seed."""
    dice = random.Random(seed)
    kinds = dice.choices(list(weights), list(weights.values()), k=length)
    return [Step(kind, *(dice.randrange(60) for _ in range(4))) for kind in kinds]


def scripts(weights: dict[str, int], length: int = 40) -> st.SearchStrategy[Script]:
    """Scripts for Hypothesis."""
    kinds = st.sampled_from([kind for kind, weight in weights.items() for _ in range(weight)])
    numbers = st.integers(0, 59)
    return st.lists(st.builds(Step, kinds, numbers, numbers, numbers, numbers), max_size=length)


@contextmanager
def borders() -> Iterator[None]:
    """Divide everything into tiny pieces."""
    with ExitStack() as stack:
        for module, name, value in (
            (local_module, "DELTA_OPERATIONS", 3),
            (columns_module, "SEGMENT_OPERATIONS", 3),
            (oplog_module, "SEGMENT_OPERATIONS", 3),
            (snapshot_module, "CHUNK_OPERATIONS", 2),
            (journal_module, "MERGE_ROWS", 2),
            (journal_module, "COMMIT_OPERATIONS", 4),
        ):
            stack.enter_context(mock.patch.object(module, name, value))
        yield


class Site:
    """One store, its disk, and what it has acknowledged."""

    def __init__(self, name: str, *, retain: bool) -> None:
        self.name = name
        self.retain = retain
        self.disk = MemoryDisk()
        self.skew_ms = 0
        self.rng = random.Random(name)
        self.open()

    def open(self) -> None:
        self.storage = MemoryStorage(self.disk)
        self.core, _, self.doubt = open_core(
            self.name, self.storage, self.rng, tables=TABLES, retain=self.retain
        )  # fmt: skip
        self.begun: local_module.Persist | None = None
        self.acks: AckMatrix[str, int] = AckMatrix(self.name, 0)
        self.acks.set_view(0, SITES)
        self.heard: list[VersionVector] = [EMPTY]  # versions that others may believe this one to be at
        self.commit(Durability.SYNC)

    @property
    def version(self) -> VersionVector:
        return self.core.store.version

    def begin(self, level: Durability) -> None:
        if self.begun is None:
            self.core.demand(level)
            self.begun = self.core.take_persist()

    def finish(self) -> None:
        if self.begun is not None:
            self.storage.commit(self.begun.commit, self.begun.durability)
            self.core.persisted(self.begun.position)
            self.begun = None

    def commit(self, level: Durability) -> None:
        self.finish()
        self.begin(level)
        self.finish()
        self.core.upkeep(position=0)


class Mail(NamedTuple):
    """Bytes on their way, and the acknowledgement that rides along."""

    source: str
    target: str
    messages: tuple[tuple[int, bytes], ...]
    clock: VersionVector
    view: int


class World:
    """Runs scripts. Raises Difference, or whatever a store raises that it should not."""

    def __init__(self, *, retain: bool = False, forgets: bool = False) -> None:
        self.forgets = forgets
        self.model = Model()
        self.made: dict[Dot, tuple[int, Operation]] = {}  # every write, with its number in the model
        self.sites = {name: Site(name, retain=retain) for name in SITES}
        self.slots: dict[tuple[str, str, int], CausalContext] = {}
        self.loose: set[tuple[str, str]] = set()  # places where receipts were used, see `compare_exactly`
        self.mail: list[Mail] = []
        self.captures: list[tuple[str, LocalCore, Capture]] = []
        self.now_ms = 1_000
        self.away: Site | None = None
        self.view = 0

    def run(self, script: Script) -> None:
        """Take the steps, then demand convergence, then that every disk holds the same."""
        for step in script:
            self.now_ms += 1
            self.take(step)
        self.settle()
        self.compare_all()
        for site in self.sites.values():
            before = self.shown(site)
            site.commit(Durability.SYNC)
            site.disk.crash()
            site.open()
            assert self.shown(site) == before, "a store opened anew shows what it showed"
        self.compare_all()

    # -- steps

    def take(self, step: Step) -> None:
        members = self.members()
        site = members[step.a % len(members)]
        other = members[(step.a + 1 + step.b % (len(members) - 1)) % len(members)]
        match step.kind:
            case "put":
                self.put(site, PLACES[step.b % len(PLACES)], ("here", "here", "blind", 0, 1)[step.c % 5],
                         deletes=step.d % 3 == 2, receipt=step.d % 4 == 3)  # fmt: skip
            case "read":
                self.read(site, PLACES[step.b % len(PLACES)], step.c % 2)
            case "send":
                self.send(site, other, step.c, step.d)
            case "late":
                if self.mail:
                    self.deliver(self.mail.pop(step.a % len(self.mail)))
            case "snapshot":
                self.snapshot(site, other, step.c)
            case "commit":
                site.commit(self.level(step.b))
            case "begin":
                site.begin(self.level(step.b))
            case "cut":
                log = site.core.store.log
                site.core.upkeep(position=log.start + (log.end - log.start) * (1 + step.b % 3) // 3)
            case "restart" | "power":
                self.restart(site, step)
            case "jump":
                site.skew_ms += (-50, -5, 5, 50)[step.b % 4]
            case "forget":
                site.acks.applied(site.core.durable_vector)
                site.core.store.forget(site.acks.stable())
            case "away":
                self.leave(site)
            case "back":
                self.come_back()
        self.compare(site)

    def level(self, number: int) -> Durability:
        return Durability.SYNC if self.forgets else Durability(number % 3)

    def leave(self, site: Site) -> None:
        """The others go on without *site*, which they have everything of."""
        if self.away is None:
            site.commit(Durability.SYNC)
            for other in self.members():
                if other is not site:
                    self.post(site, other, list(site.core.blob(other.version)), 0)
                    other.commit(Durability.SYNC)
            self.mail = [mail for mail in self.mail if site.name not in (mail.source, mail.target)]
            self.away = site
            self.announce()

    def come_back(self) -> None:
        """By a snapshot of whoever is first."""
        if self.away is not None:
            site, self.away = self.away, None
            host = next(other for other in self.members() if other is not site)
            host.commit(Durability.SYNC)
            taken = host.core.capture(f"for {site.name}")
            self.post(host, site, [host.core.snapshot_chunk(taken, index) for index in range(len(taken))], 0)
            site.commit(Durability.SYNC)
            self.announce()

    def members(self) -> list[Site]:
        return [site for site in self.sites.values() if site is not self.away]

    def announce(self) -> None:
        self.view += 1
        for site in self.members():
            site.acks.set_view(self.view, [member.name for member in self.members()])

    def put(self, site: Site, place: tuple[str, str], over: str | int, *, deletes: bool, receipt: bool) -> None:
        table, key = place
        store = site.core.store
        name = f"{table}/{key}"
        context: CausalContext | None = None
        vector = store.context(store.table(table), key).vector
        if over != "here":
            context = BLIND if over == "blind" else self.slots.get((table, key, int(over)), BLIND)
            vector = context.vector
        seen = self.covered(place, vector)
        ident = len(self.model.writes)
        payload = None if deletes else encode(ident)
        counter = store.put(store.table(table), key, payload, self.now_ms + site.skew_ms, context)
        operation = store.log.operation(store.own, counter)
        assert (operation.table, operation.key, operation.payload) == (table, key, payload)
        rank = (operation.timestamp, *operation.dot)
        self.model.writes[ident] = Write(ident, name, rank, deletes, seen)
        self.made[operation.dot] = (ident, operation)
        if not receipt or over not in {"here", "blind"}:
            return
        # the client keeps the receipt, which says "up to here" of the writes of this node, and nothing of the others
        site.commit(self.level(ident))
        self.slots[table, key, ident % 2] = written(store, store.table(table), key, counter, context).context
        self.loose.add(place)

    def read(self, site: Site, place: tuple[str, str], slot: int) -> None:
        """A client keeps the context; only of what is durable, for a dot that dies with the process is minted again."""
        table, key = place
        store = site.core.store
        site.commit(self.level(slot))
        self.slots[table, key, slot] = store.context(store.table(table), key)

    def covered(self, place: tuple[str, str], vector: VersionVector) -> frozenset[int]:
        """The writes that whoever holds this context has seen."""
        return frozenset(
            ident for dot, (ident, op) in self.made.items() if (op.table, op.key) == place and vector.covers(dot)
        )

    # -- between the sites

    def send(self, source: Site, target: Site, how: int, fate: int) -> None:
        """What *target* lacks, or is believed to lack; one frame or all; at once, twice or late."""
        since = target.version
        if how % 4 == 2:
            since = target.heard[how % len(target.heard)]
        elif how % 4 == 3:  # somebody is believed to have what is still under way to it
            since = since.join(source.core.durable_vector.meet(self.sites[SITES[how % len(SITES)]].version))
        if not source.core.can_capture():
            source.commit(self.level(how))
        if how % 3:
            messages: list[Delta | Snapshot] = list(source.core.blob(since))
        else:
            try:
                delta = source.core.delta(since)
            except LogTruncated:
                delta = None
            messages = [] if delta is None else [delta]
        self.post(source, target, messages, fate)

    def snapshot(self, source: Site, target: Site, how: int) -> None:
        """A snapshot that was captured now, or some time ago."""
        if source.core.can_capture():
            self.captures.append((source.name, source.core, source.core.capture(f"{source.name}{self.now_ms}")))
        if self.captures and how % 3:
            name, core, taken = self.captures.pop(how % len(self.captures))
            if name != target.name and self.away is None:
                chunks = [core.snapshot_chunk(taken, index) for index in range(len(taken))]
                self.post(self.sites[name], target, list(chunks), 0)

    def post(self, source: Site, target: Site, messages: list[Delta | Snapshot], fate: int) -> None:
        mail = Mail(source.name, target.name, tuple(map(codec.encode, messages)), source.core.durable_vector, self.view)
        if fate % 6 == 5:
            self.mail.append(mail)
            return
        self.deliver(mail)
        if fate % 6 == 4:
            before = target.version
            self.deliver(mail)
            assert target.version == before, "repeating changes nothing"

    def deliver(self, mail: Mail) -> None:
        target = self.sites[mail.target]
        target.heard.append(target.version)
        messages = [codec.decode(*message) for message in mail.messages]
        before = target.version
        try:
            target.core.merge(messages, self.now_ms + 60_000)  # type: ignore[arg-type]
        except DeltaGap:
            if target.version != before:
                raise Difference("a delta with a gap was applied in part") from None
            return
        for message in messages:
            assert isinstance(message, Delta | Snapshot)
            vector = local_module.after(EMPTY, message.batch) if isinstance(message, Delta) else before
            if isinstance(message, Snapshot):
                vector = local_module.from_wire(message.clock)
            assert target.version.descends(vector)
        target.acks.acknowledge(mail.source, mail.clock, mail.view)
        self.compare(target)

    # -- trouble

    def restart(self, site: Site, step: Step) -> None:
        """The process dies, or the machine with it."""
        if step.c % 2 and site.begun is not None:
            site.storage.commit(site.begun.commit, site.begun.durability)  # it was stored, and nobody was told
        if step.kind == "power":
            site.disk.lose_power(keep_count=step.b % 3)
        else:
            site.disk.crash()
        site.open()
        site.acks.set_view(self.view, [member.name for member in self.members()])
        gone = {
            dot: made for dot, made in self.made.items() if not any(s.version.covers(dot) for s in self.sites.values())
        }
        if any(self._is_under_way(dot) for dot in gone):
            return
        for dot in gone:
            del self.made[dot]
        self.captures = [kept for kept in self.captures if not any(kept[2].clock.covers(dot) for dot in gone)]

    def _is_under_way(self, dot: Dot) -> bool:
        return any(mail.clock.covers(dot) for mail in self.mail) or any(
            kept[2].clock.covers(dot) for kept in self.captures
        )

    # -- the end

    def settle(self) -> None:
        """Everybody is given everything."""
        self.come_back()
        for mail in self.mail:
            self.deliver(mail)
        self.mail.clear()
        for _ in range(2):
            for source in self.sites.values():
                source.commit(Durability.SYNC)
                for target in self.sites.values():
                    if source is not target:
                        self.post(source, target, list(source.core.blob(target.version)), 0)
        versions = {str(site.version) for site in self.sites.values()}
        if len(versions) != 1:
            raise Difference(f"after everything was exchanged: {sorted(versions)}")

    # -- comparing

    def arrived(self, site: Site) -> list[int]:
        """Numbers of the writes that a site has."""
        version = site.version
        return [ident for dot, (ident, _) in self.made.items() if version.covers(dot)]

    def shown(self, site: Site) -> list[object]:
        """All that a reader of a site can see."""
        store = site.core.store
        found: list[object] = [site.version, store.node]
        for table, key in PLACES:
            outcome = read(store, store.table(table), key)
            found.append(outcome.payload)
            if not self.forgets:
                found.append((outcome.siblings, None if (table, key) in self.loose else outcome.context))
            found.append(list(store.table(table).keys()))
        return found

    def compare_all(self) -> None:
        for site in self.sites.values():
            self.compare(site)
        if not self.forgets:
            shown = [self.shown(site)[2:] for site in self.sites.values()]
            assert all(each == shown[0] for each in shown), "all stores hold the same, to the byte"

    def compare(self, site: Site) -> None:
        store = site.core.store
        store.check()
        arrived = self.arrived(site)
        for table, key in PLACES:
            live = self.model.live(arrived, f"{table}/{key}")
            outcome = read(store, store.table(table), key)
            right = TABLES[table].resolve(map(self.sibling, live))
            if outcome.payload != right.payload:
                raise Difference(
                    f"{table}/{key} at {site.name} reads {outcome.payload!r}, by the model {right.payload!r}"
                )
            if (key in store.table(table)) != right.present:
                raise Difference(f"{table}/{key} at {site.name} is there or not, by the model the other")
            if not self.forgets:
                self.compare_exactly(site, (table, key), live, arrived)

    def compare_exactly(self, site: Site, place: tuple[str, str], live: list[Write], arrived: list[int]) -> None:
        (table, key), store = place, site.core.store
        twin: CausalContainer[bytes] = CausalContainer()
        version = site.version
        for dot, (_, op) in self.made.items():
            if version.covers(dot) and (op.table, op.key) == place:
                twin = twin.apply(dot, op.context, op.timestamp, op.payload)
        held, siblings = store.siblings(store.table(table), key), list(map(self.sibling, live))
        by_twin = [Sibling(*sibling) for sibling in twin.siblings]
        if not held == by_twin == siblings:
            raise Difference(f"{table}/{key} at {site.name}: {held}, by the twin {by_twin}, by the model {siblings}")
        context = store.context(store.table(table), key).vector
        seen = self.model.seen(arrived, f"{table}/{key}")
        covered = self.covered(place, context)
        if place in self.loose:
            # a receipt covers an earlier write of its node without what that one had overwritten: then what is left
            # of a context after a cut or in a snapshot is less than what was seen, but never more
            if not {write.ident for write in live} <= covered <= seen:
                raise Difference(
                    f"{table}/{key} at {site.name}: {context} covers what nobody has seen, or not what lives"
                )
        elif not covered == seen == self.covered(place, twin.context):
            raise Difference(
                f"{table}/{key} at {site.name}: {context} covers {set(covered)}, and seen were {set(seen)}"
            )

    def sibling(self, write: Write) -> Sibling:
        dot = Dot(*write.rank[1:])
        return Sibling(dot, write.rank[0], self.made[dot][1].payload)


def run(script: Script, *, retain: bool = False, forgets: bool = False) -> None:
    """A world of its own for *script*."""
    with borders():
        World(retain=retain, forgets=forgets).run(script)


def fails(script: Script, *, retain: bool = False, forgets: bool = False) -> bool:
    """Whether a script shows that something is wrong."""
    try:
        run(script, retain=retain, forgets=forgets)
    except Exception:  # noqa: BLE001 - a planted bug may show itself in any way
        return True
    return False
