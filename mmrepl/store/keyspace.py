"""
The state of every key: which dots are live, and what has been seen.

By law L1 the state of a key is a dotted causal container. Held as objects that costs a kilobyte a key, so it is held
in the smallest form that says the same: one live write whose context is nothing but its own origin's past *is* its
packed dot, an int; the value lies in the log. Only keys with several writers or several siblings have a `Record`.
Once everything that a record has seen is causally stable, it shrinks to an int again (`forget`).

The merge itself is one function, `Keyspace.apply_run`; the plain cases come first in it. Its dumb twin, with plain
objects, is `mmrepl.causality.container.CausalContainer`, and a property test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from attrs import frozen

from mmrepl.causality.dot import COUNTER_BITS, COUNTER_MAX
from mmrepl.log.columns import VOID, Context
from mmrepl.log.oplog import OpLog
from mmrepl.store.table import Table


class Record:
    """Siblings and joint context of a key that needs more than an int. Packed dots, ascending."""

    __slots__ = ("_context", "dots")

    def __init__(self, dots: list[int], context: dict[int, int] | None = None) -> None:
        self.dots = dots
        self._context = context  # None: what the dots say, each its own origin's past, by far the usual case

    @property
    def context(self) -> dict[int, int]:
        """Origin index to counter; covers every one of the dots. Not to be changed."""
        if self._context is not None:
            return self._context
        return {dot >> COUNTER_BITS: dot & COUNTER_MAX for dot in self.dots}

    def __repr__(self) -> str:
        return f"Record(dots={self.dots}, context={self.context})"


State: TypeAlias = int | Record


@frozen
class SiblingsAppeared:
    """A write met another that had not seen it. *dots* are the live writes now, packed."""

    table: str
    key: str
    dots: tuple[int, ...]


@frozen
class SiblingsVanished:
    """A key that had siblings has one live write, or none, again."""

    table: str
    key: str
    dots: tuple[int, ...]


class Keyspace:
    """
    Owner of the key states of all tables. Reads payloads from the log and buries in it what was overwritten.

    *retain*: keep overwritten payloads in the log until it is cut, for peers that may want every operation.
    """

    def __init__(self, log: OpLog, *, retain: bool = False) -> None:
        self._log = log
        self.retain = retain
        self.tables: dict[int, Table] = {}  # by our number of the table
        self.events: list[SiblingsAppeared | SiblingsVanished] = []  # taken by whoever tells people
        self.observed = True  # whether anybody takes events
        self.lost_count = 0  # values that met a concurrent one: in each such meeting one does not win
        self.siblings_max = 1  # the most siblings that a key has had
        self._forgotten: dict[int, int] = {}  # the watermark up to which all was forgotten

    # -- reading

    def live(self, table: Table, key: str) -> list[int]:
        """Packed dots of the live siblings of a key, tombstones included; empty when nothing is known."""
        state = table.states.get(key)
        if state is None:
            return []
        return list(state.dots) if isinstance(state, Record) else [state]

    def context(self, table: Table, key: str) -> dict[int, int]:
        """What has been seen of a key: origin index to counter."""
        state = table.states.get(key)
        if state is None:
            return {}
        return dict(state.context) if isinstance(state, Record) else {state >> COUNTER_BITS: state & COUNTER_MAX}

    # -- the one merge

    def apply_run(
        self,
        table: Table,
        keys: list[str],
        payloads: list[bytes | None],
        dot: int,
        position: int,
        contexts: Mapping[int, Context],
        *,
        stride: int = 1,
    ) -> None:
        """
        Apply consecutive operations of one origin to one table: the first has packed dot *dot* and log *position*.

        They stand in the log already, *stride* positions apart (0: all in one place, as those of a snapshot), and none
        was applied before. *contexts* holds those that are not plain, by counter.

        An operation drops the siblings that its context covers, and lives unless it was covered already.
        """
        if not contexts:
            if self._apply_new(table, keys, payloads, dot):
                return
            self._apply_plain(table, keys, payloads, dot, position, stride)
            return
        for key, payload in zip(keys, payloads, strict=True):
            self.apply(table, key, payload, dot, position, contexts.get(dot & COUNTER_MAX))
            dot += 1
            position += stride

    def _apply_plain(
        self, table: Table, keys: list[str], payloads: list[bytes | None], dot: int, position: int, stride: int
    ) -> None:
        """As `apply_run`, where no operation has a context: a value over its own origin's is done in place."""
        states, absent, origin, retain = table.states, table.absent, dot >> COUNTER_BITS, self.retain
        columns = self._log.columns[origin]
        base, buried, held = columns.base, columns.buried, columns.payloads
        for key, payload in zip(keys, payloads, strict=True):
            state = states.get(key)
            if state.__class__ is int and state >> COUNTER_BITS == origin and payload is not None and not absent:
                offset = (state & COUNTER_MAX) - base
                if offset >= 0 and not columns.contexts:  # `Columns.bury`, where nothing has to be asked
                    buried[offset] = position
                    if not retain:
                        held[offset] = VOID
                else:
                    self._log.bury(state, position, forget_payload=not retain)
                states[key] = dot
            else:
                self.apply(table, key, payload, dot, position, None)
            dot += 1
            position += stride

    def _apply_new(self, table: Table, keys: list[str], payloads: list[bytes | None], dot: int) -> bool:
        """As `apply_run`, in C, for keys that are all new and different. False: they are not, and nothing was done."""
        states = table.states
        # Do not ask *states* for the keys themselves: it is large and cold, and hashes them; here both are done once.
        fresh = dict(zip(keys, range(dot, dot + len(keys)), strict=True))
        if len(fresh) < len(keys) or not states.keys().isdisjoint(fresh):
            return False
        states.update(fresh)
        if table.unsorted is not None:
            table.unsorted += keys
        if None in payloads:
            gone = [key for key, payload in zip(keys, payloads, strict=True) if payload is None]
            table.absent.update(gone)
            table.unsettled.update(gone)
        return True

    def apply(
        self, table: Table, key: str, payload: bytes | None, dot: int, position: int, context: Context | None
    ) -> None:
        """As `apply_run`, for one operation. A context of None is plain."""
        states = table.states
        state = states.get(key)
        if context is not None:
            self._merge(table, key, state, dot, position, context, husk=payload is VOID)
        elif state is None:
            states[key] = dot
            if table.unsorted is not None:
                table.unsorted.append(key)
            if payload is None:
                table.absent.add(key)
                table.unsettled.add(key)
        elif state.__class__ is int and state >> COUNTER_BITS == dot >> COUNTER_BITS:
            self._log.bury(state, position, forget_payload=not self.retain)
            states[key] = dot
            if payload is None:
                table.absent.add(key)
                table.unsettled.add(key)
            elif table.absent:
                table.absent.discard(key)
        elif state.__class__ is int:
            self._meet(table, key, state, dot, payload)
        else:
            self._merge(table, key, state, dot, position, None)

    def _meet(self, table: Table, key: str, state: int, dot: int, payload: bytes | None) -> None:
        """What `_merge` does where two plain writes of two origins meet: neither has seen the other."""
        dots = [state, dot] if state < dot else [dot, state]
        table.states[key] = Record(dots)
        table.unsettled.add(key)
        self.lost_count += 1
        if payload is None or key in table.absent:
            self._note_absence(table, key, dots)
        if self.observed or self.siblings_max < 2:
            self._note_events(table, key, [state], dots)

    def _merge(
        self, table: Table, key: str, state: State | None, dot: int, position: int, context: Context | None, *,
        husk: bool = False,
    ) -> None:  # fmt: skip
        """
        The general case of `apply`. A context of None is the origin's own past.

        A *husk* was overwritten by somebody who has not seen all that it had: its context counts, its dot is dead.
        """
        origin, counter = dot >> COUNTER_BITS, dot & COUNTER_MAX
        if context is None:
            seen = {origin: counter - 1}
        else:
            seen = {packed >> COUNTER_BITS: packed & COUNTER_MAX for packed in context}
        if state is None:
            before, joint = [], {}
            if table.unsorted is not None:
                table.unsorted.append(key)
        elif isinstance(state, Record):
            before, joint = state.dots, state.context
        else:
            before, joint = [state], {state >> COUNTER_BITS: state & COUNTER_MAX}
        after = []
        for live in before:
            if seen.get(live >> COUNTER_BITS, 0) >= live & COUNTER_MAX:
                self._log.bury(live, position, forget_payload=not self.retain, seen=seen)
            else:
                after.append(live)
        if husk or joint.get(origin, 0) >= counter:
            # Overwritten before it came, and what the one that did it had seen is not known here. The joint context
            # will not do for it: that covers what merely lived beside it, and has just been overwritten by this one.
            self._log.bury(dot, position, forget_payload=husk or not self.retain, seen={})
        else:
            if after:
                self.lost_count += 1
            after.append(dot)
            after.sort()
        if seen.get(origin, 0) < counter:
            seen[origin] = counter
        for index, known in joint.items():
            if known > seen.get(index, 0):
                seen[index] = known
        self._set(table, key, after, seen)
        self._note_events(table, key, before, after)

    def _set(self, table: Table, key: str, dots: list[int], context: dict[int, int]) -> None:
        """Store a state in its smallest form, and note whether a read of it shows anything."""
        if len(dots) == 1 and context == {dots[0] >> COUNTER_BITS: dots[0] & COUNTER_MAX}:
            table.states[key] = dots[0]
        else:
            table.states[key] = Record(dots, context)
            table.unsettled.add(key)
        self._note_absence(table, key, dots)

    def _note_absence(self, table: Table, key: str, dots: list[int]) -> None:
        if self._is_absent(table, dots):
            table.absent.add(key)
            table.unsettled.add(key)
        else:
            table.absent.discard(key)

    def _is_absent(self, table: Table, dots: list[int]) -> bool:
        columns = self._log.columns
        tombstones = [dot for dot in dots if columns[dot >> COUNTER_BITS].payload(dot & COUNTER_MAX) is None]
        if not tombstones or len(tombstones) == len(dots):
            return bool(tombstones) or not dots
        return table.resolver.selects and self.winner(dots) in tombstones

    def winner(self, dots: list[int]) -> int:
        """The last in canonical order: timestamp, then origin, then counter."""
        columns = self._log.columns

        def canonical(dot: int) -> tuple[int, tuple[str, int], int]:
            owner, counter = columns[dot >> COUNTER_BITS], dot & COUNTER_MAX
            return owner.entry(counter)[0], owner.origin, counter

        return max(dots, key=canonical)

    def _note_events(self, table: Table, key: str, before: list[int], after: list[int]) -> None:
        if len(after) > 1 and after != before:
            self.siblings_max = max(self.siblings_max, len(after))
            if self.observed:
                self.events.append(SiblingsAppeared(table.name, key, tuple(after)))
        elif self.observed and len(before) > 1 >= len(after):
            self.events.append(SiblingsVanished(table.name, key, tuple(after)))

    # -- dropping, with proof

    def drop(self, table: Table, key: str, dots: set[int], position: int) -> None:
        """These siblings are dead (a snapshot that covers them lacks them). The context keeps covering them."""
        state = table.states[key]
        before = state.dots if isinstance(state, Record) else [state]
        self._forgotten = {}  # there may be less to a key now
        for dot in dots:
            self._log.bury(dot, position, forget_payload=not self.retain)
        after = [dot for dot in before if dot not in dots]
        self._set(table, key, after, self.context(table, key))
        self._note_events(table, key, before, after)

    def forget(self, watermark: Mapping[int, int]) -> int:
        """
        Forget what everybody knows to be over, and what our own log does not hold any more, given the *watermark*
        (origin index to counter) up to which both is so.

        A key qualifies when its dots *and its whole context* are below it (law L7; on the dot alone the dead rise).
        Then its tombstones go, so do the losers under a resolver that only selects, and the context shrinks to the
        dots that are left. Returns the number of operations forgotten. Cost: proportional to the keys with several
        writers, siblings or tombstones.
        """
        if watermark == self._forgotten:
            return 0  # a key that was written since is not below it
        forgotten = 0
        for _, table in sorted(self.tables.items()):
            for key in sorted(table.unsettled):
                forgotten += self._forget_key(table, key, watermark)
        self._forgotten = dict(watermark)
        return forgotten

    def _forget_key(self, table: Table, key: str, watermark: Mapping[int, int]) -> int:
        state = table.states[key]
        if isinstance(state, Record):
            before, context = state.dots, state.context
        else:
            before, context = [state], {state >> COUNTER_BITS: state & COUNTER_MAX}
        if any(watermark.get(origin, 0) < counter for origin, counter in context.items()):
            return 0
        log = self._log
        after = [self.winner(before)] if table.resolver.selects and len(before) > 1 else before
        after = [dot for dot in after if log.columns[dot >> COUNTER_BITS].payload(dot & COUNTER_MAX) is not None]
        gone = [dot for dot in before if dot not in after]
        for dot in gone:
            log.bury(dot, 1, forget_payload=True, seen=context)
        if after:
            highest: dict[int, int] = {}
            for dot in after:
                highest[dot >> COUNTER_BITS] = max(highest.get(dot >> COUNTER_BITS, 0), dot & COUNTER_MAX)
            self._set(table, key, after, highest)
            if len(after) == 1:
                table.unsettled.discard(key)
        else:
            table.remove(key)
        self._note_events(table, key, before, after)
        return len(gone)

    # -- invariants

    def check(self) -> None:
        """Assert the invariants. Cost: proportional to the store."""
        for table in self.tables.values():
            assert table.absent <= table.states.keys()
            assert table.absent <= table.unsettled <= table.states.keys()
            for key, state in table.states.items():
                dots, context = self.live(table, key), self.context(table, key)
                assert dots == sorted(set(dots)), key
                if isinstance(state, Record):
                    assert key in table.unsettled, key
                    assert len(dots) != 1 or context != {dots[0] >> COUNTER_BITS: dots[0] & COUNTER_MAX}, key
                for dot in dots:
                    owner, counter = self._log.columns[dot >> COUNTER_BITS], dot & COUNTER_MAX
                    assert context[dot >> COUNTER_BITS] >= counter, key
                    stamp, number, its_key, _, _ = owner.entry(counter)
                    assert (number, its_key) == (table.number, key), "a live dot points at its operation"
                    assert counter < owner.base or not owner.buried[counter - owner.base], "what lives is not buried"
                    assert stamp >= 0
                assert (key in table.absent) == self._is_absent(table, dots), key
            table.check()
