"""The application's part of the demo: how two shopping carts become one."""

from __future__ import annotations


def merge_carts(carts: list[list[str]]) -> list[str]:
    """
    Everything that anybody put in, in order.

    >>> merge_carts([["tea", "cake"], ["tea", "milk"]])
    ['cake', 'milk', 'tea']
    """
    return sorted(set().union(*carts))
