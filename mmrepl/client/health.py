"""
What is known of one node's health, and when to look again. Told what happened; reads no clock.

A node is up from the first answer to a check and down from the first failure of one. While it is up it is looked at at
intervals; while it is down, after a back-off that begins at 100 ms and doubles to 30 s, with jitter, for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from mmrepl.ports import Rng
from mmrepl.transport.backoff import Backoff

RETRY_MS_MIN, RETRY_MS_MAX = 100, 30_000

_SMOOTHING = 0.25  # of a new round trip in the smoothed one; as much as TCP would take twice


@frozen(kw_only=True)
class Role:
    """What a node says that it is; see MM.ROLE."""

    mode: str = ""  # multi-master, single-master
    role: str = ""  # node, primary, replica, candidate
    name: str = ""
    primary: str = ""  # client address of the node that takes writes, if it is another and known
    term: int = 0

    @classmethod
    def parse(cls, answer: Mapping[Any, Any]) -> Role:
        """Out of the answer of MM.ROLE; what is missing, or of another type, stays empty."""
        facts = {_text(name): item for name, item in answer.items()}
        term = facts.get("term")
        return cls(
            mode=_text(facts.get("mode")),
            role=_text(facts.get("role")),
            name=_text(facts.get("name")),
            primary=_text(facts.get("primary")),
            term=term if type(term) is int else 0,
        )

    @classmethod
    def of_redis(cls, hello: object) -> Role:
        """Out of the answer of HELLO, for a node that does not know MM.ROLE: Redis' own two roles."""
        facts = {_text(name): item for name, item in hello.items()} if isinstance(hello, Mapping) else {}
        role = {"master": "primary", "replica": "replica", "slave": "replica"}.get(_text(facts.get("role")), "")
        return cls(mode="", role=role)


class Health:
    """Of one node."""

    def __init__(self, interval_ms: int, rng: Rng) -> None:
        self.up = False
        self.role = Role()
        self.rtt_ms = 0.0  # smoothed; 0 before the first answer
        self.trouble = "not asked yet"  # why it is not up; empty when it is
        self.checks_count = 0
        self._interval_ms = interval_ms
        self._backoff = Backoff(RETRY_MS_MIN, RETRY_MS_MAX, rng)

    def answered(self, rtt_ms: float, role: Role) -> bool:
        """A check was answered; returns whether that changes where calls go."""
        changed = not self.up or role != self.role
        self.rtt_ms = self.rtt_ms + _SMOOTHING * (rtt_ms - self.rtt_ms) if self.up else rtt_ms
        self.up, self.role, self.trouble = True, role, ""
        self.checks_count += 1
        self._backoff.reset()
        return changed

    def failed(self, trouble: str) -> bool:
        """A check was not answered, or nobody is there; returns whether that is news."""
        changed = self.up or not self.checks_count
        self.up, self.trouble = False, trouble
        self.checks_count += 1
        return changed

    def next_ms(self) -> int:
        """How long to wait before the next check."""
        return self._interval_ms if self.up else self._backoff.next_ms()


def _text(word: object) -> str:
    return word.decode("utf-8", "replace") if isinstance(word, bytes) else word if isinstance(word, str) else ""
