"""Fixtures of the tests of embedded replicas."""

from __future__ import annotations

import pytest

from mmrepl.runtime.replica import Replica
from tests.runtime.embedded import TABLES


@pytest.fixture
def paris() -> Replica:
    return Replica("paris", tables=TABLES)


@pytest.fixture
def tokyo() -> Replica:
    return Replica("tokyo", tables=TABLES)
