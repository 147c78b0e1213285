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


def _answer(help: str) -> Parameter:
    return Parameter(negative="", show_default=False, group=ANSWER_GROUP, help=help)


@Parameter(name="*")
@frozen(kw_only=True)
class Answer:
    """How a command answers."""

    json: Annotated[bool, _answer("Answer in JSON on standard output, for programs.")] = False
    debug: Annotated[bool, _answer("On an error, show where in the program it was raised.")] = False


@Parameter(name="*")
@frozen(kw_only=True)
class Reach:
    """Which node a command talks to."""

    node: Annotated[
        str, Parameter(env_var="MMREPL_NODE", group=NODE_GROUP, help="The node's client port, as host:port.")
    ] = DEFAULT_NODE
    password_file: Annotated[
        Path | None,
        Parameter(
            env_var="MMREPL_PASSWORD_FILE",
            group=NODE_GROUP,
            help="A file that holds the password of the client port.",
        ),
    ] = None
    timeout: Annotated[float, Parameter(group=NODE_GROUP, help="Seconds to wait for the node, for each answer.")] = 10.0


ANSWER = Answer()
REACH = Reach()

Key: TypeAlias = Annotated[str, Parameter(help="The key.")]

Table: TypeAlias = Annotated[str, Parameter(show_default=False, help="The table; without it the default table.")]
