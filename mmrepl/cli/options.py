"""
Options that several commands share: which node, which table, how to answer.

Each class stands for a few options that go together; cyclopts spreads its fields over the command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from attrs import frozen
from cyclopts import Group, Parameter

DEFAULT_NODE = "127.0.0.1:6401"

NODE_GROUP = Group("Node", sort_key=8)
ANSWER_GROUP = Group("Answer", sort_key=9)

Flag: TypeAlias = Annotated[bool, Parameter(negative="", show_default=False)]
"""A switch without a ``--no-`` form."""

Level: TypeAlias = Literal["sync", "batch", "none"]


@Parameter(name="*")
@frozen(kw_only=True)
class Answer:
    """How a command answers."""

    json: Annotated[bool, Parameter(negative="", show_default=False, group=ANSWER_GROUP)] = False
    """Answer in JSON on standard output, for programs."""
    debug: Annotated[bool, Parameter(negative="", show_default=False, group=ANSWER_GROUP)] = False
    """On an error, show where in the program it was raised."""


@Parameter(name="*")
@frozen(kw_only=True)
class Reach:
    """Which node a command talks to."""

    node: Annotated[str, Parameter(env_var="MMREPL_NODE", group=NODE_GROUP)] = DEFAULT_NODE
    """The node's client port, as host:port."""
    password_file: Annotated[Path | None, Parameter(env_var="MMREPL_PASSWORD_FILE", group=NODE_GROUP)] = None
    """A file that holds the password of the client port."""
    timeout: Annotated[float, Parameter(group=NODE_GROUP)] = 10.0
    """Seconds to wait for the node, for each answer."""


ANSWER = Answer()
REACH = Reach()

Table: TypeAlias = Annotated[str, Parameter(show_default=False, help="The table; without it the default table.")]
