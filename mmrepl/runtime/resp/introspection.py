"""What the server says about itself to Redis' tools: COMMAND, CONFIG, INFO. MM.STATUS says more, and says it better."""

from __future__ import annotations

import os
import sys
import time

from mmrepl.ports import Durability
from mmrepl.runtime.resp.commands import COMMANDS, MANY, CommandSpec, command
from mmrepl.runtime.resp.connection import REDIS_VERSION
from mmrepl.runtime.resp.glob import PATTERN_CHARACTERS_MAX, matcher
from mmrepl.runtime.resp.protocol import Command
from mmrepl.runtime.resp.session import Answer, Refused, Session
from mmrepl.wire.resp import Reply, Simple, bulk, integer

# -- COMMAND


def _info(spec: CommandSpec) -> Reply:
    return [
        spec.name.lower(),
        spec.arity,
        [Simple(flag) for flag in spec.flags],
        *spec.keys,
        [],  # categories of access lists, which we do not have
        [],  # hints
        [],  # key specifications beyond first, last and step
        [],  # subcommands
    ]


def _docs(spec: CommandSpec) -> Reply:
    return {
        "summary": spec.summary,
        "since": "0.1.0",
        "group": spec.group,
        "arguments": [{"name": part, "type": "string"} for part in spec.syntax.split()],
    }


@command("COMMAND [COUNT | LIST | INFO [name …] | DOCS [name …]]", group="server", flags="readonly", words=(1, MANY))
def command_(session: Session, words: Command) -> Answer:
    """The commands: all, their number, names, facts, or documentation."""
    what = words[1].upper() if len(words) > 1 else b"INFO"
    names = [word.decode("utf-8", "replace").upper() for word in words[2:]] or list(COMMANDS)
    match what:
        case b"COUNT":
            return integer(len(COMMANDS))
        case b"LIST":
            return session.reply([name.lower() for name in COMMANDS])
        case b"INFO":
            return session.reply([_info(COMMANDS[name]) if name in COMMANDS else None for name in names])
        case b"DOCS":
            return session.reply({name.lower(): _docs(COMMANDS[name]) for name in names if name in COMMANDS})
    raise Refused(f"unknown subcommand '{words[1].decode('utf-8', 'replace')[:64]}'. Try COMMAND COUNT.")


# -- CONFIG


def _settings(session: Session) -> dict[str, str]:
    options = session.shared.options
    host, _, port = session.shared.address.rpartition(":")
    return {
        "appendonly": "no" if session.backend.durability is Durability.NONE else "yes",
        "bind": host,
        "databases": "1",
        "maxclients": str(options.clients),
        "maxmemory": "0",
        "maxmemory-policy": "noeviction",
        "port": port or "0",
        "proto-max-bulk-len": str(options.bulk_bytes),
        "requirepass": "",  # never told
        "save": "",
        "timeout": "0",
    }


@command("CONFIG GET pattern [pattern …]", group="server", flags="admin readonly", words=(2, MANY))
def config(session: Session, words: Command) -> Answer:
    """A few of Redis' settings, for tools that look; nothing can be set at run time."""
    what = words[1].upper()
    if what != b"GET":
        name = what.decode("utf-8", "replace")[:64]
        raise Refused(f"CONFIG {name} is not offered: settings are given to the node when it starts; see MM.STATUS")
    if len(words) < 3:
        raise Refused("wrong number of arguments for 'config|get' command")
    tests = [matcher(word.decode().lower()[:PATTERN_CHARACTERS_MAX])[0] for word in words[2:]]
    settings = _settings(session)
    return session.reply({name: value for name, value in settings.items() if any(test(name) for test in tests)})


# -- INFO


def _sections(session: Session) -> dict[str, dict[str, object]]:
    shared, backend = session.shared, session.backend
    return {
        "server": {
            "redis_version": REDIS_VERSION,
            "redis_mode": "standalone",
            "server_name": "mmrepl",
            "os": sys.platform,
            "process_id": os.getpid(),
            "tcp_port": shared.address.rpartition(":")[2],
            "uptime_in_seconds": int(time.monotonic() - shared.started_s),
        },
        "clients": {
            "connected_clients": len(shared.sessions),
            "maxclients": shared.options.clients,
        },
        "persistence": {"loading": 0, "durability": backend.durability.name.lower()},
        "stats": {
            "total_connections_received": shared.connections_count,
            "total_commands_processed": shared.executed_count,
            "rejected_connections": shared.rejected_count,
            "stalled_connections": shared.stalled_count,
            "total_error_replies": shared.errors_count,
            "scan_cursors": len(shared.cursors),
        },
        # Redis' words: every node takes writes, and the others follow it.
        "replication": {"role": "master", "connected_slaves": max(0, len(backend.members()) - 1)},
        "mmrepl": {
            "node": backend.name,
            **{name: value for name, value in backend.status().items() if isinstance(value, str | int | float)},
        },
        "keyspace": {
            f"table_{name}" if name else "db0": f"keys={len(backend.table(name))},resolver={policy}"
            for name, policy in backend.tables().items()
        },
    }


@command("INFO [section …]", group="server", flags="readonly", words=(1, MANY))
def info(session: Session, words: Command) -> Answer:
    """Facts and counters in Redis' form: server, clients, persistence, stats, replication, mmrepl, keyspace."""
    wanted = {word.decode("utf-8", "replace").lower() for word in words[1:]}
    everything = not wanted or wanted & {"all", "everything", "default"}
    text = "\r\n".join(
        f"# {name.capitalize()}\r\n" + "".join(f"{fact}:{_one_line(value)}\r\n" for fact, value in facts.items())
        for name, facts in _sections(session).items()
        if everything or name in wanted
    )
    return bulk(text.encode())


def _one_line(value: object) -> str:
    return " ".join(str(value).split())
