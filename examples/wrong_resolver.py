"""
A merge function that looks right, and the smallest history that shows that it is not.

The shop merges carts by putting the lists behind each other. In every test with one replica it works.
"""

from __future__ import annotations

from mmrepl.testing import ResolverRefuted, check_resolver


def merge_carts(carts: list[list[str]]) -> list[str]:
    """Everything that is in any of them. Or so it seems."""
    return [item for cart in carts for item in cart]


def merge_carts_better(carts: list[list[str]]) -> list[str]:
    """Each item once, in an order that is the same everywhere."""
    return sorted({item for cart in carts for item in cart})


def nothing_is_lost(writes: list[list[str]], result: list[str]) -> bool:
    """What anybody put in, and nobody took out, is there."""
    return {item for cart in writes for item in cart} <= set(result)


def main() -> None:
    """Refute the first, and try in vain with the second."""
    try:
        check_resolver(merge_carts, values=[["tea"], ["milk", "cake"]])
    except ResolverRefuted as refuted:
        print(refuted)
    else:
        raise SystemExit("the check has lost its teeth")
    print("\n--- with every item once ---\n")
    print(check_resolver(merge_carts_better, invariant=nothing_is_lost))


if __name__ == "__main__":
    main()
