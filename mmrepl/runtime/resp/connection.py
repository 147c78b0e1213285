"""
About the connection itself: PING, HELLO, AUTH, SELECT, CLIENT, QUIT and their like, and WAIT.

There is one user, ``default``, and either no password or one. Until it is shown, only the commands flagged
``no_auth`` do anything.
"""

from __future__ import annotations

import time

from mmrepl.ports import Durability
from mmrepl.runtime.resp.commands import MANY, command, number
from mmrepl.runtime.resp.protocol import Command
from mmrepl.runtime.resp.session import Answer, Pending, Refused, Session
from mmrepl.types import DEFAULT_TABLE
from mmrepl.wire.resp import OK, bulk, integer

REDIS_VERSION = "7.0.0"
"""The Redis whose protocol and command texts we speak; clients choose their ways by it."""


@command("PING [message]", group="connection", flags="fast", words=(1, 2))
def ping(_session: Session, words: Command) -> Answer:
    """PONG, or the message."""
    return bulk(words[1]) if len(words) == 2 else b"+PONG\r\n"


@command("ECHO message", group="connection", flags="fast", words=(2, 2))
def echo(_session: Session, words: Command) -> Answer:
    """The message."""
    return bulk(words[1])


@command("QUIT", group="connection", flags="fast no_auth", words=(1, MANY))
def quit_(session: Session, _words: Command) -> Answer:
    """OK, and the connection is closed."""
    session.closing = session.special = True
    return OK


@command("RESET", group="connection", flags="fast no_auth", words=(1, 1))
def reset(session: Session, _words: Command) -> Answer:
    """Forget what this connection has chosen: protocol, table, durability, name and password."""
    session.reset()
    return b"+RESET\r\n"


def _authenticate(session: Session, user: bytes, password: bytes) -> None:
    # Both are always compared, so that the time does not tell which was wrong.
    if not (session.shared.admits(password) & (user == b"default")):
        session.refusals_count += 1
        if session.refusals_count >= session.shared.options.refusals:
            session.closing = session.special = True
        raise Refused("invalid username-password pair or user is disabled.", "WRONGPASS")
    session.admit(True)


@command("AUTH [username] password", group="connection", flags="fast no_auth", words=(2, 3))
def auth(session: Session, words: Command) -> Answer:
    """Show the password of the port; the username is ``default``."""
    if len(words) == 2 and session.shared.options.password is None:
        raise Refused("AUTH <password> called without any password configured for the default user.")
    _authenticate(session, words[1] if len(words) == 3 else b"default", words[-1])
    return OK


@command("HELLO [protover [AUTH username password] [SETNAME name]]", group="connection", flags="no_auth", words=(1, 7))
def hello(session: Session, words: Command) -> Answer:
    """Choose version 2 or 3 of the protocol; tells who the server is."""
    protocol = session.protocol
    if len(words) > 1:
        try:
            protocol = number(words[1], 2, 3)
        except Refused:
            raise Refused("unsupported protocol version", "NOPROTO") from None
    name: str | None = None
    at = 2
    while at < len(words):
        option = words[at].upper()
        if option == b"AUTH" and at + 2 < len(words):
            _authenticate(session, words[at + 1], words[at + 2])
            at += 3
        elif option == b"SETNAME" and at + 1 < len(words):
            name = _client_name(words[at + 1])
            at += 2
        else:
            raise Refused(f"Syntax error in HELLO option '{words[at].decode('utf-8', 'replace')[:40]}'")
    if not session.authenticated:
        raise Refused(
            "HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> "
            "<pass> option can be used to authenticate the client and select the RESP protocol version at the same "
            "time",
            "NOAUTH",
        )
    session.protocol = protocol
    if name is not None:
        session.name = name
    return session.reply(
        {
            "server": "mmrepl",
            "version": REDIS_VERSION,
            "proto": protocol,
            "id": session.number,
            "mode": "standalone",
            "role": "master",  # Redis' word for "takes writes"; clients look for it
            "modules": [],
        }
    )


@command("SELECT index", group="connection", flags="fast", words=(2, 2))
def select(session: Session, words: Command) -> Answer:
    """0: the default table. Other tables have names: see MM.TABLE."""
    if number(words[1]) != 0:
        raise Refused("DB index is out of range: tables have names here, use MM.TABLE name; 0 is the default table")
    session.table = session.backend.table(DEFAULT_TABLE)
    return OK


@command("WAIT numreplicas timeout", group="connection", flags="blocking", words=(3, 3))
def wait(session: Session, words: Command) -> Answer:
    """
    How many other members have applied this connection's writes: waits until numreplicas have, or timeout ms.

    A smaller answer is no failure: the writes are in the log and will spread. 0 waits as long as the port allows.
    """
    others = number(words[1], 0)
    timeout_ms = number(words[2], 0)
    longest = int(session.shared.options.wait_seconds * 1000)
    future = session.backend.wait(session.position, others, min(timeout_ms or longest, longest))
    return Pending(future, integer)


@command("TIME", group="connection", flags="fast", words=(1, 1))
def time_(session: Session, _words: Command) -> Answer:
    """This machine's time: seconds and microseconds."""
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    return session.reply([str(seconds), str(rest // 1000)])


@command("MM.DURABILITY [sync|batch|none]", group="connection", flags="fast", words=(1, 2))
def durability(session: Session, words: Command) -> Answer:
    """The level of this connection's writes from now on; without a level, what it is."""
    if len(words) == 2:
        session.set_durability(durability_level(words[1]))
        return OK
    level = session.backend.durability if session.durability is None else session.durability
    return session.reply(level.name.lower())


def durability_level(word: bytes) -> Durability:
    """``sync``, ``batch`` or ``none``. Raises Refused."""
    try:
        return Durability.parse(word.decode("utf-8", "replace"))
    except ValueError as error:
        raise Refused(str(error)) from None


# -- CLIENT


def _client_name(word: bytes) -> str:
    if len(word) > 256 or any(not 0x21 <= byte <= 0x7E for byte in word):
        raise Refused("Client names cannot contain spaces, newlines or special characters.")
    return word.decode()


def _line(session: Session) -> str:
    facts = {
        "id": session.number,
        "addr": session.address,
        "laddr": session.shared.address,
        "name": session.name,
        "age": int(time.monotonic() - session.created_s),
        "flags": "N",
        "db": 0,
        "table": session.table.name,
        "user": "default" if session.authenticated else "",
        "lib-name": session.library.get("LIB-NAME", ""),
        "lib-ver": session.library.get("LIB-VER", ""),
        "resp": session.protocol,
        "commands": session.commands_count,
    }
    return " ".join(f"{name}={value}" for name, value in facts.items()) + "\n"


_CLIENT_HELP = [
    "CLIENT <subcommand> [<arg> ...]. Subcommands are:",
    "GETNAME, SETNAME name, SETINFO LIB-NAME|LIB-VER text",
    "ID, INFO, LIST",
    "NO-EVICT ON|OFF, NO-TOUCH ON|OFF: nothing is ever evicted",
    "REPLY ON|OFF|SKIP",
]


@command("CLIENT subcommand [argument …]", group="connection", flags="fast", words=(2, MANY))
def client(session: Session, words: Command) -> Answer:
    """About this connection and the others: GETNAME, SETNAME, SETINFO, ID, INFO, LIST, REPLY, NO-EVICT, NO-TOUCH."""
    what = words[1].upper().decode("utf-8", "replace")
    given = words[2:]
    match what, len(given):
        case "GETNAME", 0:
            return bulk(session.name.encode()) if session.name else session.null
        case "SETNAME", 1:
            session.name = _client_name(given[0])
            return OK
        case "SETINFO", 2:
            name = given[0].upper().decode("utf-8", "replace")
            if name not in {"LIB-NAME", "LIB-VER"}:
                raise Refused(f"Unrecognized option '{name[:40]}'")
            session.library[name] = _client_name(given[1])
            return OK
        case "ID", 0:
            return integer(session.number)
        case "INFO", 0:
            return bulk(_line(session).encode())
        case "LIST", _:
            return bulk("".join(_line(other) for other in session.shared.sessions.values()).encode())
        case (("NO-EVICT" | "NO-TOUCH"), 1) if given[0].upper() in {b"ON", b"OFF"}:
            return OK
        case "REPLY", 1 if given[0].upper() in {b"ON", b"OFF", b"SKIP"}:
            return _client_reply(session, given[0].upper())
        case "HELP", 0:
            return session.reply(_CLIENT_HELP)
    raise Refused(f"unknown subcommand or wrong number of arguments for '{what[:64].lower()}'. Try CLIENT HELP.")


def _client_reply(session: Session, mode: bytes) -> bytes:
    if mode == b"ON":
        session.muted = session.skip = False
        return OK
    if mode == b"OFF":
        session.muted = True
    else:
        session.skip = not session.muted
    session.special = True
    return b""
