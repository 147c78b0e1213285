"""
Three nodes, a partition, writes on both sides, and what is there after the heal.

Real nodes on real sockets, in one process and on loopback. Lima is cut off from Paris and Tokyo; both sides go on
writing; then they are let together again. Everything that is printed was read from the nodes.
"""

from __future__ import annotations

import asyncio

import mmrepl
from mmrepl.resolvers import Callback, KeepSiblings, LastWriterWins


def union(carts: list[list[str]]) -> list[str]:
    """All that is in any cart."""
    return sorted({item for cart in carts for item in cart})


TABLES = {"greetings": LastWriterWins(), "carts": Callback(union, name="union"), "drafts": KeepSiblings()}
CITIES = ("paris", "tokyo", "lima")


def show(nodes: dict[str, mmrepl.Node], what: str) -> None:
    """What each node shows of each table."""
    print(f"\n{what}:")
    for table in TABLES:
        print(f"  {table:10}", *(f"{name}: {node.get('ada', table=table)!s:38}" for name, node in nodes.items()))


async def converged(nodes: dict[str, mmrepl.Node]) -> None:
    """Return when all nodes have applied the same."""
    for node in nodes.values():
        await node.wait_until(lambda: len({each.version for each in nodes.values()}) == 1, "the same everywhere")


async def main() -> None:
    nodes: dict[str, mmrepl.Node] = {}
    try:
        for name in CITIES:
            peers = [node.address for node in nodes.values()]
            nodes[name] = await mmrepl.Node(name, tables=TABLES, peers=peers).start()
        for name, node in nodes.items():
            await node.wait_connected(*(other for other in CITIES if other != name))
        paris, tokyo, lima = nodes.values()

        def tell(event: mmrepl.SiblingsEvent) -> None:
            print(f"  lima: siblings {event.kind} at {event.table}/{event.key}: {', '.join(map(str, event.dots))}")

        lima.on_siblings(tell)
        await paris.put("ada", "bonjour", table="greetings", acks="all")
        await paris.put("ada", ["tea"], table="carts", acks="all")
        await paris.put("ada", "Roses are red", table="drafts", acks="all")
        show(nodes, "All three are connected, and have the same")

        for node in (paris, tokyo):
            node.block("lima")
        for other in ("paris", "tokyo"):
            lima.block(other)
        print("\nLima is cut off.")
        await tokyo.put("ada", "konnichiwa", table="greetings", acks=2)
        await tokyo.put("ada", ["tea", "cake"], table="carts", acks=2)
        await tokyo.put("ada", "Roses are pink", table="drafts", acks=2)
        await lima.put("ada", "buenos días", table="greetings")
        await lima.put("ada", ["tea", "jam"], table="carts")
        await lima.put("ada", "Roses are blue", table="drafts")
        show(nodes, "Both sides have written")
        try:
            await lima.put("ada", "¿hay alguien?", table="greetings", acks="majority", timeout=0.3)
        except mmrepl.MmreplError as error:
            print(f"\nLima asks for a majority, and is told the truth:\n  {error}")

        print("\nThe partition heals.")
        for node in nodes.values():
            node.unblock()
        await converged(nodes)
        show(nodes, "Everybody has everything")
        for table in TABLES:
            assert len({str(node.get("ada", table=table)) for node in nodes.values()}) == 1
        print("\nThe last writer won over the others, who can still be read:")
        for sentence in paris.read("ada", table="greetings").resolution.explain():
            print(f"  {sentence}")

        read = paris.read("ada", table="drafts")
        await paris.put("ada", "Roses are purple", table="drafts", context=read.context, acks="all")
        print(f"\nA person has read {read.value} and made one of it: {tokyo.get('ada', table='drafts')}")
        assert lima.get("ada", table="drafts") == ["Roses are purple"]
    finally:
        for node in nodes.values():
            await node.close()


if __name__ == "__main__":
    asyncio.run(main())
