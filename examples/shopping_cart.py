"""
A shopping cart on two devices that are apart: three ways to merge, of which one is right.

Ada's cart is on her phone and on her laptop. On a train without network she changes it on both. The same changes are
made under three resolvers, in three tables of one store:

    the last cart      what the later device says; the other one's changes are gone
    all that is in any a union; what was taken out comes back, and of two cakes added there is one
    counted            for each item and device how many were ever put in and taken out; the largest count of each is
                       kept, and their difference is what is in the cart

Nothing is a matter of luck here: every one of them shows the same cart on both devices. They agree, and only one of
them agrees on what Ada did.
"""

from __future__ import annotations

import mmrepl
from mmrepl.resolvers import Callback, LastWriterWins

PLAIN = ("the last cart", "all that is in any")  # item -> how many
COUNTED = "counted"  # item -> device -> [put in, taken out]


def union(carts: list[dict[str, int]]) -> dict[str, int]:
    """Wrong: the larger number of each item in any cart."""
    items = sorted({item for cart in carts for item in cart})
    return {item: max(cart.get(item, 0) for cart in carts) for item in items}


def merge_counts(carts: list[dict[str, dict[str, list[int]]]]) -> dict[str, dict[str, list[int]]]:
    """Right: nobody but a device itself counts its own changes, so the largest of its counts is the latest."""
    merged: dict[str, dict[str, list[int]]] = {}
    for cart in carts:
        for item, devices in cart.items():
            for device, (put_in, taken_out) in devices.items():
                before = merged.setdefault(item, {}).get(device, [0, 0])
                merged[item][device] = [max(before[0], put_in), max(before[1], taken_out)]
    return merged


class Device:
    """A replica with Ada's three carts."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.replica = mmrepl.Replica(
            name,
            tables={
                "the last cart": LastWriterWins(),
                "all that is in any": Callback(union, name="union"),
                COUNTED: Callback(merge_counts, name="counts"),
            },
        )

    def change(self, item: str, by: int) -> None:
        """Put some of an item in, or take some out, in all three carts."""
        for table in PLAIN:
            cart = self.replica.table(table).get("ada") or {}
            cart[item] = cart.get(item, 0) + by
            self.replica.table(table)["ada"] = {item: count for item, count in sorted(cart.items()) if count > 0}
        cart = self.replica.table(COUNTED).get("ada") or {}
        counts = cart.setdefault(item, {}).setdefault(self.name, [0, 0])
        counts[by < 0] += abs(by)
        self.replica.table(COUNTED)["ada"] = cart

    def shows(self, table: str) -> dict[str, int]:
        """What Ada sees."""
        cart = self.replica.table(table).get("ada") or {}
        if table == COUNTED:
            cart = {item: sum(a - b for a, b in devices.values()) for item, devices in cart.items()}
        return {item: count for item, count in sorted(cart.items()) if count > 0}


def meet(one: Device, other: Device) -> None:
    """Each gives the other what it lacks."""
    other.replica.merge(one.replica.delta(since=other.replica.version))
    one.replica.merge(other.replica.delta(since=one.replica.version))


def main() -> None:
    phone, laptop = Device("phone"), Device("laptop")
    truth: dict[str, int] = {}

    def change(device: Device, item: str, by: int) -> None:
        print(f"  {device.name:6} {'puts in' if by > 0 else 'takes out'} {abs(by)} {item}")
        device.change(item, by)
        truth[item] = truth.get(item, 0) + by

    print("At home:")
    change(phone, "tea", 1)
    change(phone, "milk", 1)
    change(phone, "cake", 1)
    meet(phone, laptop)

    print("On the train, where the two cannot meet:")
    change(phone, "milk", -1)
    change(phone, "cake", 1)
    change(laptop, "jam", 1)
    change(laptop, "cake", 1)

    print("Back at home they meet.\n")
    meet(phone, laptop)
    wanted = {item: count for item, count in sorted(truth.items()) if count > 0}
    print(f"{'what Ada did':20} {wanted}")
    for table in (*PLAIN, COUNTED):
        shown = phone.shows(table)
        assert shown == laptop.shows(table), "the devices disagree"
        print(f"{table:20} {shown}   {'right' if shown == wanted else 'WRONG'}")
    assert phone.shows(COUNTED) == wanted

    read = phone.replica.table(PLAIN[0]).read("ada")
    print("\nThe last cart hides nothing, though:")
    for sentence in read.resolution.explain():
        print(f"  {sentence}")

    device_count = len(phone.replica.table(COUNTED).read("ada").siblings)
    phone.change("bread", 1)
    print(f"\nThe next change writes one cart over the {device_count} siblings, and is all that is left of them:")
    meet(phone, laptop)
    assert len(laptop.replica.table(COUNTED).read("ada").siblings) == 1
    print(f"{COUNTED:20} {laptop.shows(COUNTED)}")


if __name__ == "__main__":
    main()
