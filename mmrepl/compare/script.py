"""
The fault script: what happens to the cluster, and when.

By default the primary is cut off from all others for a good third of the run; then a node of the other side crashes and
comes back, and the network heals. Under *manual* failover somebody notices the partition after a while, and promotes
a replica. Whom it hits is said by role, so that one script fits every mode: where there is no primary, its part is
played by the first node.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

from attrs import field, frozen, validators

from mmrepl.errors import UsageError

Deed: TypeAlias = Literal["isolate", "promote", "crash", "restart", "heal"]

_DEEDS: tuple[Deed, ...] = ("isolate", "promote", "crash", "restart", "heal")


@frozen(order=True)
class Moment:
    """At *at_ms*, one deed."""

    at_ms: int = field(validator=validators.ge(0))
    deed: Deed = field(validator=validators.in_(_DEEDS))


def _in_order(moments: Iterable[Moment]) -> tuple[Moment, ...]:
    return tuple(sorted(moments, key=lambda one: one.at_ms))


@frozen
class Script:
    """Moments in order. *Promote* is left out where nobody needs to be promoted."""

    moments: tuple[Moment, ...] = field(converter=_in_order)

    @classmethod
    def usual(cls, duration_ms: int) -> Script:
        """The default, stretched over a run of *duration_ms*."""

        def at(share: float, deed: Deed) -> Moment:
            return Moment(int(duration_ms * share), deed)

        return cls(
            (
                at(0.20, "isolate"),
                at(0.32, "promote"),
                at(0.42, "crash"),
                at(0.52, "restart"),
                at(0.62, "heal"),
            )
        )

    @classmethod
    def parse(cls, text: str) -> Script:
        """``"4000 isolate, 9000 heal"``: milliseconds and deeds. Raises UsageError."""
        moments: list[Moment] = []
        for part in text.split(","):
            time, _, deed = part.strip().partition(" ")
            try:
                moments.append(Moment(int(time), deed.strip()))  # type: ignore[arg-type]
            except ValueError:
                raise UsageError(
                    f"{part.strip()!r} is no moment of a fault script: expected milliseconds and one of"
                    f" {', '.join(_DEEDS)}, as in '4000 isolate, 9000 heal'"
                ) from None
        return cls(tuple(moments))

    def __str__(self) -> str:
        return ", ".join(f"{moment.at_ms} {moment.deed}" for moment in self.moments)
