"""
A shop's web tier: it is no node, it talks to three of them, and one of them fails while it is open.

`mmrepl.Client` finds the nearest node, goes elsewhere when that one is gone, and says of every write that failed
whether it was made. A customer's *session* goes from request to request as a short text, as in a cookie, and keeps what
the customer has seen, also when the next request reaches a node that has not heard of it yet.
"""

from __future__ import annotations

import asyncio

import mmrepl
from mmrepl.errors import NodeBehind
from mmrepl.resolvers import Callback


def together(carts: list[list[str]]) -> list[str]:
    """Whatever was put into the cart, at whichever node."""
    return sorted(set().union(*carts))


async def request(client: mmrepl.Client, cookie: str | None, item: str) -> tuple[str, list[str]]:
    """One request of a customer: put something into the cart, show the cart; gives the cookie for the next one."""
    session = client.session(cookie)
    carts = session.table("carts")
    read = await carts.read("ada")
    await carts.put("ada", sorted([*(read.value or []), item]), context=read.context)
    cart = await carts.get("ada")
    return session.token, cart


async def main() -> None:
    tables = {"carts": Callback(together)}
    paris = await mmrepl.Node("paris", client="127.0.0.1:0", tables=tables).start()
    tokyo = await mmrepl.Node("tokyo", client="127.0.0.1:0", tables=tables, peers=[paris.address]).start()
    lima = await mmrepl.Node("lima", client="127.0.0.1:0", tables=tables, peers=[paris.address]).start()
    await lima.wait_connected("paris", "tokyo")
    nodes = {node.client_address: node for node in (paris, tokyo, lima)}
    try:
        async with mmrepl.Client(list(nodes), health_interval=0.2) as client:
            print(f"Three nodes, one client: {', '.join(row['name'] or row['address'] for row in client.status())}")
            cookie, cart = await request(client, None, "tea")
            print(f"Ada puts tea into her cart: {cart}")
            home = nodes[(await client.put("where", 1)).node]
            print(f"That was at {home.name}, the nearest. It closes, in the middle of the day:")
            await home.close()
            cookie, cart = await request(client, cookie, "cake")
            print(f"  Ada adds cake, and sees {cart}")
            assert cart == ["cake", "tea"]
            here = nodes[(await client.put("where", 2)).node]
            assert here is not home
            print(f"  served by {here.name}; nobody saw an error")

        [other] = [node for node in nodes.values() if node not in {home, here}]
        here.block(other.name)
        print(f"Then the line between {here.name} and {other.name} breaks, and requests go to either:")
        async with mmrepl.Client(here.client_address) as one, mmrepl.Client(other.client_address) as two:
            cookie, cart = await request(one, cookie, "plum")
            print(f"  at {here.name} she adds a plum: {cart}")
            stale = await two.table("carts").get("ada")
            print(f"  {other.name} would show {stale}, without it")
            try:
                await two.session(cookie).table("carts").get("ada", timeout=0.3)
            except NodeBehind as error:
                print(f"  with her cookie it says: {type(error).__name__}, and shows nothing old")
            waiting = asyncio.ensure_future(request(two, cookie, "honey"))
            here.unblock()
            cookie, cart = await waiting
            print(f"The line is mended while her next request waits at {other.name}, and she has lost nothing: {cart}")
            assert cart == ["cake", "honey", "plum", "tea"]
        print(f"Her cookie has {len(cookie)} characters.")
    finally:
        for node in nodes.values():
            await node.close()


if __name__ == "__main__":
    asyncio.run(main())
