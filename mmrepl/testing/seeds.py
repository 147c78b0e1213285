"""The seed that checks use when they are not told one: the pytest option ``--mmrepl-seed``, or 0."""

from __future__ import annotations

import os
from typing import Final

VARIABLE: Final = "MMREPL_SEED"
"""Set in the environment by the pytest plugin, so that nothing of the toolkit is loaded for it."""


def default_seed() -> int:
    """The seed of this run."""
    try:
        return int(os.environ.get(VARIABLE, "0"))
    except ValueError:
        return 0
