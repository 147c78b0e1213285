"""
What a command is: its syntax, its arity, what it touches, and a function.

The groups (`strings`, `keys`, `connection`, `introspection`, `causal`) put their commands into `COMMANDS` with the
`command` decorator; a function's docstring begins with the summary that clients and the reference page show. So the
dispatcher, COMMAND DOCS and the documentation cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from mmrepl.runtime.resp.protocol import Command
from mmrepl.runtime.resp.session import Handler, Refused

MANY = 1 << 30
"""As many words as a client may send."""


@frozen
class CommandSpec:
    """One row of the command table."""

    name: str  # in capitals
    syntax: str  # arguments, as COMMAND DOCS and the reference show them
    group: str
    summary: str
    least: int  # words, name included
    most: int
    flags: tuple[str, ...]  # Redis' words: readonly, write, fast, admin, no_auth, blocking
    keys: tuple[int, int, int]  # first, last and step of the words that are keys; zeros: none
    run: Handler

    @property
    def arity(self) -> int:
        """As Redis counts: words, negated when there may be more."""
        return self.least if self.least == self.most else -self.least


COMMANDS: dict[str, CommandSpec] = {}
"""Every command, by name in capitals. Filled by importing the groups; see `mmrepl.runtime.resp.table`."""


def command(
    syntax: str,
    *,
    group: str,
    flags: str,
    words: tuple[int, int],
    keys: tuple[int, int, int] = (0, 0, 0),
) -> Callable[[Handler], Handler]:
    """Enter a function into the table. *syntax* is the name and its arguments; *words* counts the name too."""
    name, _, arguments = syntax.partition(" ")

    def enter(run: Handler) -> Handler:
        assert name not in COMMANDS, name
        summary = (run.__doc__ or "").strip().partition("\n\n")[0]
        assert summary, f"{name} has no summary"
        COMMANDS[name] = CommandSpec(
            name=name,
            syntax=arguments,
            group=group,
            summary=" ".join(summary.split()),
            least=words[0],
            most=words[1],
            flags=tuple(flags.split()),
            keys=keys,
            run=run,
        )
        return run

    return enter


# -- reading arguments


def number(word: bytes, least: int = -(1 << 63), most: int = (1 << 63) - 1) -> int:
    """An integer within bounds. Raises Refused with the text that Redis uses."""
    if len(word) <= 20 and word.removeprefix(b"-").isdigit():
        value = int(word)
        if least <= value <= most:
            return value
    raise Refused("value is not an integer or out of range")


def options(words: Command, start: int, known: dict[str, int]) -> dict[str, Command]:
    """
    The options from word *start* on: name in capitals to the words that follow it.

    *known* says how many words each takes. Raises Refused for an unknown or repeated one, and when words are missing.
    """
    found: dict[str, Command] = {}
    at = start
    while at < len(words):
        name = words[at].upper().decode("utf-8", "replace")
        after = at + 1 + known.get(name, 0)
        if name not in known or name in found or after > len(words):
            raise Refused("syntax error")
        found[name] = words[at + 1 : after]
        at = after
    return found
