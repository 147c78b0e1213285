"""
What every kind of test shares: Hypothesis profiles, and documents as tests.

A plain ``pytest`` runs the tests, the python blocks of README.md and of docs/, and the doctests of the package.
This file stands at the root because README.md and mmrepl/ do.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from sybil import Sybil
from sybil.parsers.rest import DocTestParser

from tests.docs.blocks import PythonBlocks, enter_scratch_folder, leave_scratch_folder

# The same examples on every run and every machine: a red run can be run again. `deep` is for looking for trouble,
# with new dice each time: pytest --hypothesis-profile=deep
settings.register_profile(
    "ci",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    stateful_step_count=30,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("deep", settings.get_profile("ci"), derandomize=False, max_examples=3_000)
settings.load_profile("ci")

documents = Sybil(
    name="documents",
    parsers=[PythonBlocks()],
    patterns=["README.md", "docs/*.md", "docs/*/*.md"],
    setup=enter_scratch_folder,
    teardown=leave_scratch_folder,
)
docstrings = Sybil(name="docstrings", path="mmrepl", parsers=[DocTestParser()], patterns=["*.py"])

pytest_collect_file = (documents + docstrings).pytest()
