"""Exit codes."""

from __future__ import annotations

import errno

import pytest

from mmrepl import errors
from mmrepl.cli.exits import MEANING, Exit, code_of, table


def family(kind):
    return [kind, *(deeper for sub in kind.__subclasses__() for deeper in family(sub))]


def make(kind):
    for arguments in ({}, {"confirmed": 1, "wanted": 2}, {"ahead_ms": 1}, {"behind_entries": 1, "behind_ms": 2}):
        try:
            return kind("why", **arguments)
        except TypeError:
            continue
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", [kind for kind in family(errors.MmreplError) if kind.__module__ == "mmrepl.errors"])
def test_every_error_of_ours_has_a_code_of_its_branch(kind):
    """A script can tell its own mistake from a missing node and from a damaged file, and none is called a defect."""
    branches = {
        errors.UsageError: Exit.USAGE,
        errors.Unavailable: Exit.UNAVAILABLE,
        errors.StorageError: Exit.STORAGE,
    }
    expected = next((code for branch, code in branches.items() if issubclass(kind, branch)), Exit.CANNOT)
    assert code_of(make(kind)) is expected


def test_errors_of_the_system():
    """An address that is taken is not a damaged file."""
    assert code_of(OSError(errno.EADDRINUSE, "in use")) is Exit.UNAVAILABLE
    assert code_of(ConnectionRefusedError()) is Exit.UNAVAILABLE
    assert code_of(PermissionError(errno.EACCES, "no", "x.db")) is Exit.STORAGE
    assert code_of(ZeroDivisionError()) is Exit.DEFECT
    assert code_of(KeyboardInterrupt()) is Exit.INTERRUPTED


def test_the_table_has_every_code():
    """What a command may end with can be looked up."""
    assert set(MEANING) == set(Exit)
    assert all(f"| {code.value} |" in table() for code in Exit)
