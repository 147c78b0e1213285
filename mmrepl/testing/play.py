"""
Playing a history on real replicas, and asking about every state that it reaches.

Each replica is an embedded `Replica` on a disk in memory, with a clock that the history turns: one millisecond a step.
Between them go the bytes of real deltas. Whatever a step changes is read, and the siblings read are put to the
subject; at the end the questions of the whole history are put to another process, forwards and backwards.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

from mmrepl import BLIND, Dot, Replica
from mmrepl.errors import MmreplError, UsageError
from mmrepl.resolvers.sibling import value_text
from mmrepl.storage import MemoryDisk, MemoryStorage
from mmrepl.testing import history as steps
from mmrepl.testing.diagram import Event, Message, Note, Remark, diagram
from mmrepl.testing.history import Step
from mmrepl.testing.mends import Found, found
from mmrepl.testing.other_process import OtherProcess, Told
from mmrepl.testing.subject import Group, Subject, alike
from mmrepl.types import Value
from mmrepl.values import decode

KEY = "k"
SETTLED_BYTES = 16 * 1024
"""A value that has grown beyond this by being written back will not come to rest."""

Invariant: TypeAlias = Callable[[list[Value], Value], object]
"""Told the values of all writes behind a read, and what is read; false, or an AssertionError, says that it is wrong."""


class HandClock:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def wall_ms(self) -> int:
        """Milliseconds since 1970."""
        return self.ms

    def monotonic_ms(self) -> int:
        """The same."""
        return self.ms


class Play:
    """One play of one history; `run` it once. Raises Found; `diagram` then shows what led there."""

    def __init__(
        self,
        subject: Subject,
        invariant: Invariant | None,
        other: OtherProcess | None = None,
        *,
        hashes: bool = False,
    ) -> None:
        self._hashes = hashes  # whether answers under other hashes are asked for, too
        self._subject = subject
        self._invariant = invariant
        self._other = other
        self._clock = HandClock()
        self._disks: dict[str, MemoryDisk] = {}
        self._replicas: dict[str, Replica] = {}
        self._dice = random.Random(0)  # noqa: S311 - incarnations
        self._under_way: dict[tuple[str, str], list[bytes]] = {}
        self._arrived: dict[tuple[str, str], bytes] = {}
        self._writes: list[Value] = []
        self._behind: dict[Dot, frozenset[int]] = {}  # which of the writes a dot stands for
        self._answers: dict[Group, bytes | None] = {}
        self._events: list[Event] = []

    def run(self, history: Sequence[Step]) -> None:
        """Play it. Raises Found at the first fault."""
        try:
            for step in history:
                self._clock.ms += 1
                self._take(step)
            self._ask_elsewhere()
            if self._hashes:
                for group in self._answers:
                    self._subject.try_hashes(group)
        finally:
            for replica in self._replicas.values():
                replica.close()

    def diagram(self) -> str:
        """What happened, as a space-time diagram."""
        return diagram(list(self._replicas), self._events) if self._replicas else ""

    # -- steps

    def _take(self, step: Step) -> None:
        match step:
            case steps.Put():
                self._put(step)
            case steps.Delete(at):
                written = self._replica(at).delete(KEY)
                self._behind[written.dot] = frozenset()
                self._note(at, "deletes")
                self._look(at)
            case steps.WriteBack(at):
                if self._write_back(at):
                    self._look(at)
            case steps.Deliver(source, target):
                self._deliver(source, target)
            case steps.Send(source, target):
                self._send(source, target)
            case steps.Arrive(source, target):
                if waiting := self._under_way.get((source, target)):
                    self._arrive(source, target, waiting.pop(0), "late")
            case steps.Repeat(source, target):
                if data := self._arrived.get((source, target)):
                    self._arrive(source, target, data, "again")
            case steps.Restart(at):
                self._restart(at)
            case steps.Exchange():
                self._exchange()
                self._compare()
            case steps.Settle():
                self._settle(step.rounds)

    def _put(self, step: steps.Put) -> None:
        replica = self._replica(step.at)
        written = replica.put(KEY, step.value, context=BLIND if step.blind else None)
        self._behind[written.dot] = frozenset([len(self._writes)])
        self._writes.append(step.value)
        self._note(step.at, f"puts {steps.literal(step.value)}" + (", blind" if step.blind else ""))
        self._look(step.at)

    def _write_back(self, at: str) -> bool:
        replica = self._replica(at)
        group = self._siblings(at)
        read = None if self._subject.resolver.wraps else self._read(at, group)
        if read is None:
            return False
        try:
            written = replica.put(KEY, decode(read), context=self._subject.guarded_read(replica, KEY).context)
        except UsageError as error:
            raise found("grows", f"{self._subject.name} gives a value that cannot be written back: {error}.") from None
        self._behind[written.dot] = self._behind_all(group)
        self._note(at, f"puts back {value_text(read, 'nothing')}")
        return True

    def _deliver(self, source: str, target: str) -> None:
        data = self._replica(source).delta(since=self._replica(target).version)
        if source != target:
            self._arrive(source, target, data)

    def _send(self, source: str, target: str) -> None:
        if source != target:
            data = self._replica(source).delta(since=self._replica(target).version)
            self._under_way.setdefault((source, target), []).append(data)
            self._events.append(Message(source, target, "under way", lost=True))

    def _arrive(self, source: str, target: str, data: bytes, how: str = "") -> None:
        replica = self._replica(target)
        fresh = replica.merge(data).fresh
        self._arrived[source, target] = data
        if fresh or how:
            self._events.append(Message(source, target, how))
            self._look(target)

    def _restart(self, at: str) -> None:
        replica = self._replica(at)
        node = replica.node
        self._disks[at].crash()
        self._replicas[at] = self._open(at)
        assert self._replicas[at].node == node, "a replica on a sound disk is who it was"
        self._note(at, "restarts")
        self._look(at)

    def _exchange(self) -> None:
        names = list(self._replicas)
        for source, target in [*pairwise(names), *pairwise(names[::-1])]:
            self._deliver(source, target)

    def _settle(self, rounds: int) -> None:
        sizes: list[int] = []
        payloads: list[bytes | None] = []
        for number in range(rounds + 1):
            at = next(iter(self._replicas), None)
            payload = None if at is None else self._read(at, self._siblings(at))
            if payload is None or (payloads and payload == payloads[-1]):
                return
            payloads.append(payload)
            sizes.append(len(payload))
            if len(payload) > SETTLED_BYTES or number == rounds:
                break
            self._clock.ms += 1
            quiet = number >= 2
            kept = len(self._events)
            wrote = [self._write_back(name) for name in self._replicas]
            if not any(wrote):
                return
            self._exchange()
            if quiet:
                del self._events[kept:]
        self._events.append(Remark("… and so on"))
        self._unsettled(sizes, payloads)

    def _unsettled(self, sizes: list[int], payloads: list[bytes | None]) -> None:
        name = self._subject.name
        told = ", ".join(map(str, sizes[:8])) + (", …" if len(sizes) > 8 else "")
        when = ("first", "after one round", "after two")
        answers = tuple(zip(when, payloads, strict=False))
        first = sizes[:4]
        if sizes[-1] > SETTLED_BYTES or first == sorted(set(first)):
            sentence = f"{name} grows without end when what is read is written back: {told} bytes, round after round."
            raise found("grows", sentence, answers=answers)
        sentence = f"{name} never comes to rest when what is read is written back: each round gives another value."
        raise found("never rests", sentence, answers=answers)

    # -- reading

    def _siblings(self, at: str) -> Group:
        replica = self._replica(at)
        return tuple(replica._store.siblings(replica._table(""), KEY))

    def _look(self, at: str) -> None:
        """Read at *at*, if there is anything for the resolver to decide."""
        group = self._siblings(at)
        if not self._subject.meets(group):
            return
        payload = self._read(at, group)
        self._note(at, f"reads {value_text(payload, 'nothing')}")
        if self._invariant is not None and payload is not None:
            self._try_invariant(group, payload)

    def _read(self, at: str, group: Group) -> bytes | None:
        """What is read there, by the subject's answers and the replica's alike. Raises Found."""
        if not group:
            return None
        if not self._subject.meets(group):
            return self._replica(at).read(KEY).payload
        try:
            self._examine(group)
            payload = self._answers[group]
            read = self._subject.guarded_read(self._replica(at), KEY).payload
        except Found:
            self._note(at, "reads …")
            raise
        except MmreplError as error:
            raise found("raises", str(error), given=self._subject.shown(group)) from error
        if read != payload:
            self._fault("replicas differ", f"answers {at} otherwise than it answered before", payload, read)
        return payload

    def _examine(self, group: Group) -> None:
        if group not in self._answers:
            payload = self._answers[group] = self._subject.examine(group)
            first = self._subject.questions[group]
            if payload != first and self._is_alone():
                # Where a fresh process can be asked, `_ask_backwards` finds a history that shows it by itself.
                self._fault("memory", "remembers: since it was first asked about these siblings, its answer changed",
                            first, payload)  # fmt: skip
            return
        again = self._subject.answer(group)
        if again != self._answers[group]:
            self._fault(
                "memory",
                "remembers: asked about other siblings in between, it answers otherwise about the same ones",
                self._answers[group],
                again,
            )

    def _is_alone(self) -> bool:
        return self._other is None or bool(self._other.trouble)

    def _compare(self) -> None:
        reads = {name: self._read(name, self._siblings(name)) for name in self._replicas}
        groups = {self._siblings(name) for name in self._replicas}
        assert len(groups) <= 1, "replicas that exchanged everything hold the same siblings"
        (first, *others) = reads.items() if reads else [("", None)]
        for other in others:
            if other[1] != first[1]:
                self._fault("replicas differ", "gives replicas that hold the same siblings different answers",
                            first[1], other[1])  # fmt: skip

    def _try_invariant(self, group: Group, payload: bytes) -> None:
        assert self._invariant is not None
        writes = [_copy(self._writes[index]) for index in sorted(self._behind_all(group))]
        shown = tuple(steps.literal(value) for value in writes)
        try:
            verdict = self._invariant(writes, decode(payload))
        except AssertionError as error:
            verdict, why = False, f" ({error})" if str(error) else ""
        except Exception as error:
            raise UsageError(
                f"the invariant raised {type(error).__name__}: {error}; given {', '.join(shown)}"
            ) from error
        else:
            why = ""
        if verdict is not None and not verdict:
            raise found(
                "invariant",
                f"{self._subject.name} breaks the invariant{why}: of the writes {', '.join(shown)} it makes"
                f" {value_text(payload, 'nothing', 200)}.",
                answers=(("result", payload),),
            )

    def _behind_all(self, group: Group) -> frozenset[int]:
        return frozenset().union(*(self._behind[sibling.dot] for sibling in group if sibling.payload is not None))

    # -- another process, another order

    def _ask_elsewhere(self) -> None:
        groups = list(self._answers)
        there = None if self._other is None or not groups else self._other.ask(groups)
        if len(groups) > 1:
            self._ask_backwards(groups, there)
        if there is not None:
            for group, (fine, answer) in zip(groups, there, strict=True):
                self._judge(group, fine=fine, answer=answer)

    def _ask_backwards(self, groups: list[Group], there: list[Told] | None) -> None:
        """The same questions in another order, each time to a fresh process where there is one."""
        forth, back = there, None
        if forth is not None and self._other is not None:
            back = self._other.ask(groups[::-1])
        if forth is None or back is None:
            forth = [(True, answer) for answer in self._answers.values()]
            back = [(True, self._subject.answer(group)) for group in reversed(groups)]
        for one, other in zip(forth, reversed(back), strict=True):
            if one != other:
                self._fault(
                    "memory",
                    "remembers: asked the same questions in another order, it answers otherwise",
                    _bytes(one[1]),
                    _bytes(other[1]),
                )

    def _judge(self, group: Group, *, fine: bool, answer: bytes | str | None) -> None:
        """Compare what another process answered with what was answered here."""
        ours = self._answers[group]
        if (fine and answer == ours) or self._subject.memory is not None:
            return
        assert self._other is not None
        # Our module has been asked other things before. If that is the reason, it is memory, and a history shows it.
        after_all = self._other.ask([*self._subject.questions, group])
        if after_all is not None and after_all[-1] == (True, ours):
            self._subject.memory = self._found(
                "memory",
                f"remembers: after {len(self._subject.questions)} other questions it answers otherwise than at first",
                _bytes(answer),
                ours,
            )
            self._subject.memory.told = self.diagram
            return
        self._subject.try_hashes(group)
        where = f"PYTHONHASHSEED={self._other.hash_seed}"
        if not fine:
            sentence = f"{self._subject.name} answers here and fails in another process ({where}): {_text(answer)}"
            raise found("other process", sentence, given=self._subject.shown(group))
        here, elsewhere = ("this process", ours), ("another process", _bytes(answer))
        sentence = f"{self._subject.name} answers otherwise in another process ({where}, other locale and time zone)."
        remark = "\n".join(filter(None, [alike(here, elsewhere), self._subject.hint()]))
        raise found("other process", sentence, answers=(here, elsewhere), remark=remark)

    def _fault(self, kind: str, what: str, one: bytes | None, other: bytes | None) -> None:
        raise self._found(kind, what, one, other)

    def _found(self, kind: str, what: str, one: bytes | None, other: bytes | None) -> Found:
        answers = (("one answer", one), ("the other", other))
        return found(kind, f"{self._subject.name} {what}.", answers=answers, remark=self._subject.hint())

    # -- replicas

    def _replica(self, name: str) -> Replica:
        if name not in self._replicas:
            self._disks[name] = MemoryDisk()
            self._replicas[name] = self._open(name)
        return self._replicas[name]

    def _open(self, name: str) -> Replica:
        storage = MemoryStorage(self._disks[name])
        return Replica(name, default=self._subject.resolver, storage=storage, clock=self._clock, rng=self._dice)

    def _note(self, at: str, text: str) -> None:
        self._events.append(Note(at, text))


def _copy(value: Value) -> Any:
    from mmrepl.values import encode

    return decode(encode(value))


def _text(answer: bytes | str | None) -> str:
    return answer if isinstance(answer, str) else repr(answer)


def _bytes(answer: bytes | str | None) -> bytes | None:
    return answer.encode() if isinstance(answer, str) else answer
