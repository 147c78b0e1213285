"""Dialling: who should be connected and is not is dialled, again and again, as far as back-off allows."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import define

from mmrepl.transport.backoff import Backoff

if TYPE_CHECKING:
    from mmrepl.sim.host import SimHost

LOOK_MS = 100
"""How often a node looks for whom to dial."""


@define
class Dial:
    """What is known of one address."""

    backoff: Backoff
    busy: bool = False
    link: int | None = None
    not_before_ms: int = 0


class Dialler:
    """The dialling of one simulated host."""

    def __init__(self, node: SimHost[Any]) -> None:
        self._node = node
        self.dials: dict[str, Dial] = {}

    def look(self, life: int) -> None:
        """Dial whoever is missing, and look again in a while; ends with that life of the node."""
        node, core = self._node, self._node.core
        if life != node.life or core is None:
            return
        stage, now = node.stage, node.stage.world.now_ms
        if not node.paused:
            connected = {peer.hello.address for peer in core.up()}
            allowed = core.wanted_addresses()
            for address in allowed if node.mesh else stage.addresses_beside(node):
                if address == node.address or address not in allowed:
                    continue
                dial = self.dials.get(address)
                if address in connected:
                    if dial is not None and dial.backoff.attempts:
                        dial.backoff.reset()
                    continue
                if dial is None:
                    dial = self.dials[address] = self._dial()
                if not dial.busy and now >= dial.not_before_ms:
                    dial.busy = True
                    stage.network.dial(node.name, address, partial(self.failed, life, address))
        stage.world.after(LOOK_MS, self.look, life)

    def failed(self, life: int, address: str, _why: str = "") -> None:
        """What was dialled in that life of the node is not there, or not any more: it may be dialled again, later."""
        dial = self.dials.get(address)
        if life == self._node.life and dial is not None:
            dial.busy = False
            dial.not_before_ms = self._node.stage.world.now_ms + dial.backoff.next_ms()

    def _dial(self) -> Dial:
        limits = self._node.running.limits
        return Dial(Backoff(limits.reconnect_ms_min, limits.reconnect_ms_max, self._node._rng))
