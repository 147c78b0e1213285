"""
The command that runs a node: serve.

It stops cleanly on SIGINT and SIGTERM, whenever they come: what was written is made durable, the peers are told, the
file is closed, and the exit code is 0. An elected leader has another node take over before it stops, which may take an
election timeout; a second signal stops it at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from attrs import frozen
from cyclopts import Group, Parameter

from mmrepl.cli.exits import Exit
from mmrepl.cli.options import ANSWER, Answer, Flag, Level
from mmrepl.cli.policies import parse_policy, parse_tables
from mmrepl.errors import StorageError, UsageError
from mmrepl.log.policy import LogPolicy
from mmrepl.transport.address import is_loopback

if TYPE_CHECKING:  # loaded only by those who run a node: asyncio and the store are slow to load
    from mmrepl.cli.narrator import Narrator
    from mmrepl.runtime.node import Node
    from mmrepl.runtime.single_master_node import SingleMasterNode
    from mmrepl.transport.tcp import TcpTransport


SINGLE = Group("Single-master mode", sort_key=7)


@Parameter(name="*")
@frozen(kw_only=True)
class OneWriter:
    """The knobs of a node in single-master mode."""

    failover: Annotated[
        Literal["automatic", "manual"], Parameter(group=SINGLE, help="An elected leader, or one that people promote.")
    ] = "automatic"
    ack: Annotated[
        str, Parameter(group=SINGLE, help="When a write is answered: async, one, a number of replicas, quorum, all.")
    ] = "quorum"
    primary: Annotated[
        Flag, Parameter(group=SINGLE, help="Manual failover: make this node the first primary of a new cluster.")
    ] = False
    election_ms: Annotated[
        tuple[int, int],
        Parameter(group=SINGLE, negative="", help="How long, at least and at most, to wait for the leader."),
    ] = (1_000, 2_000)

    @property
    def level(self) -> int | str:
        """The acknowledgement level, as the node takes it."""
        return int(self.ack) if self.ack.isdigit() else self.ack


ONE_WRITER = OneWriter()

ENCRYPTION = Group("TLS between nodes", sort_key=6)


@Parameter(name="*")
@frozen(kw_only=True)
class Encryption:
    """The files for TLS between nodes."""

    tls_certificate: Annotated[
        Path | None, Parameter(group=ENCRYPTION, help="A PEM file: the certificate that this node shows to others.")
    ] = None
    tls_key: Annotated[
        Path | None, Parameter(group=ENCRYPTION, help="Its key, if that is not in the same file; no passphrase.")
    ] = None
    tls_authority: Annotated[
        Path | None,
        Parameter(group=ENCRYPTION, help="Who has issued the certificates of all nodes, and of nobody else."),
    ] = None

    def transport(self, *, secured: bool, insecure: bool) -> TcpTransport | None:
        """The transport with TLS; None where it is not asked for. Raises UsageError."""
        if self == PLAIN:
            return None
        if self.tls_certificate is None or self.tls_authority is None:
            raise UsageError("TLS between nodes takes --tls-certificate and --tls-authority, both of them")
        from mmrepl.transport.tcp import TcpTransport
        from mmrepl.transport.tls import mutual_tls

        accepting, dialling = mutual_tls(self.tls_certificate, self.tls_key, self.tls_authority)
        return TcpTransport(server_ssl=accepting, client_ssl=dialling, secured=secured, insecure=insecure)


PLAIN = Encryption()


def serve(
    name: Annotated[str, Parameter(help="The node's name, its own within the cluster.")],
    /,
    *,
    listen: Annotated[str, Parameter(help="Where peers reach it, as host:port; port 0 takes a free one.")] = (
        "127.0.0.1:7401"
    ),
    peer: Annotated[
        list[str] | None, Parameter(negative="", help="The address of another node; several times for several.")
    ] = None,
    client: Annotated[str, Parameter(help="Where clients reach it, in the Redis protocol; `none` for nowhere.")] = (
        "127.0.0.1:6401"
    ),
    path: Annotated[Path | None, Parameter(help="The file of its store. Without it, all is kept in memory.")] = None,
    durability: Annotated[Level, Parameter(help="What writes wait for that do not say.")] = "sync",
    default: Annotated[
        str, Parameter(help="Policy of tables that are not named: lww, siblings, callback:MODULE:FUNCTION.")
    ] = "lww",
    table: Annotated[
        list[str] | None, Parameter(negative="", help="NAME=POLICY of one table; several times for several.")
    ] = None,
    cluster: Annotated[str, Parameter(help="Only nodes of one cluster talk to each other.")] = "default",
    secret_file: Annotated[Path | None, Parameter(help="A file that holds the secret all nodes share.")] = None,
    password_file: Annotated[Path | None, Parameter(help="A file that holds the password for clients.")] = None,
    insecure: Annotated[Flag, Parameter(help="Allow addresses beyond this machine without secret or password.")] = (
        False
    ),
    rejoin: Annotated[Flag, Parameter(help="If this node was removed, come back as a new incarnation.")] = False,
    compress: Annotated[Flag, Parameter(help="Compress what is sent to peers, where both sides can.")] = False,
    log_operations: Annotated[int, Parameter(help="The log is cut when longer; who is further behind gets all.")] = (
        1_000_000
    ),
    log_bytes: Annotated[
        int | None, Parameter(help="The log is cut when its keys and values take more bytes than that.")
    ] = None,
    log_age: Annotated[float | None, Parameter(help="What is older than so many seconds is cut from the log.")] = None,
    loop: Annotated[
        Literal["asyncio", "uvloop"], Parameter(help="The event loop; uvloop, an extra, is the quicker one.")
    ] = "asyncio",
    until_eof: Annotated[
        Flag, Parameter(help="Stop as well when standard input, a pipe, ends: so a child ends with its parent.")
    ] = False,
    mode: Annotated[Literal["multi-master", "single-master"], Parameter(help="Many writers, or one at a time.")] = (
        "multi-master"
    ),
    one: OneWriter = ONE_WRITER,
    encryption: Encryption = PLAIN,
    config: Annotated[Path | None, Parameter(help="A TOML file with these options; the command line wins.")] = None,  # noqa: ARG001 — read by mmrepl.cli.config
    answer: Answer = ANSWER,
) -> Exit:
    """
    Run a node until it is told to stop (Ctrl-C, SIGTERM), and tell who comes and goes.

    Peers and clients have a port each. Give each node the address of one other or more; the rest it learns from them.
    With `--json`, a line for each event; the first one, `started`, has the addresses that were really bound.

    An elected leader has another node take over before it stops; a second signal stops it at once.
    """
    from mmrepl.cli.narrator import Narrator
    from mmrepl.cli.remote import password_of
    from mmrepl.runtime.node import Node
    from mmrepl.runtime.single_master_node import SingleMasterNode

    if mode == "multi-master" and one != ONE_WRITER:
        raise UsageError("--failover, --ack, --primary and --election-ms are for --mode single-master")
    if mode == "single-master" and (default != "lww" or table or rejoin):
        raise UsageError("--default, --table and --rejoin are for --mode multi-master: here a key has one value")
    for option, bound in (("operations", log_operations), ("bytes", log_bytes), ("age", log_age)):
        if bound is not None and not 1 <= bound < 1 << 53:
            raise UsageError(f"--log-{option} must be at least 1, not {bound}")
    kept = LogPolicy(
        operations=log_operations, bytes=log_bytes, age_ms=None if log_age is None else int(log_age * 1000)
    )
    new_loop = _loop_factory(loop)
    secret, password = secret_of(secret_file), password_of(password_file)
    transport = encryption.transport(secured=secret is not None, insecure=insecure)
    if not insecure:
        protected = secret is not None or transport is not None
        _check_protected("--listen", listen, protected, "--secret-file or --tls-certificate")
        if client != "none":
            _check_protected("--client", client, password is not None, "--password-file")
    if mode == "single-master":
        options = {"log_entries": log_operations} | ({} if log_bytes is None else {"log_bytes": log_bytes})
        single = SingleMasterNode(
            name, path, listen=listen, peers=peer or (), client=None if client == "none" else client,
            cluster=cluster, failover=one.failover, ack=one.level, primary=one.primary, election_ms=one.election_ms,
            durability=durability, secret=secret, client_password=password, insecure=insecure, compression=compress,
            options=options, transport=transport,
        )  # fmt: skip
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(_serve(single, Narrator(json=answer.json), until_eof=until_eof))
    node = Node(
        name,
        path,
        listen=listen,
        peers=peer or (),
        client=None if client == "none" else client,
        cluster=cluster,
        default=parse_policy(default),
        tables=parse_tables(table or []),
        durability=durability,
        secret=secret,
        client_password=password,
        insecure=insecure,
        rejoin=rejoin,
        compression=compress,
        log=kept,
        transport=transport,
    )
    narrator = Narrator(json=answer.json)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(_serve(node, narrator, until_eof=until_eof))


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the event loop called *name*. Raises UsageError."""
    if name == "asyncio":
        return asyncio.new_event_loop
    try:
        import uvloop
    except ImportError:
        raise UsageError('--loop uvloop needs uvloop: pip install "mmrepl[uvloop]"') from None
    return uvloop.new_event_loop


async def _serve(node: Node | SingleMasterNode, narrator: Narrator, *, until_eof: bool) -> Exit:
    """Start, follow, stop."""
    from mmrepl.runtime.single_master_node import SingleMasterNode

    told_to_stop, at_once = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def signalled() -> None:
        (at_once if told_to_stop.is_set() else told_to_stop).set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signalled)
    if until_eof:
        _watch_input(loop, told_to_stop)
    narrator.listen(node)
    async with node:
        started = f"{node.name} serves peers at {node.address}"
        if node.client_address:
            started += f" and clients at {node.client_address}"
        started += f", from {node.path}" if node.path is not None else ", in memory"
        narrator.tell(
            "started",
            started,
            name=node.name,
            node=str(node.identity),
            address=node.address,
            client=node.client_address or None,
            path=None if node.path is None else str(node.path),
            pid=os.getpid(),
        )
        if node.doubt is not None:
            narrator.tell("warning", f"it took a new incarnation: {node.doubt}", text=node.doubt)
        following = asyncio.create_task(narrator.follow(node))
        stopping = asyncio.create_task(told_to_stop.wait())
        await asyncio.wait([following, stopping], return_when=asyncio.FIRST_COMPLETED)
        following.cancel()
        stopping.cancel()
        await asyncio.wait([following, stopping])
        if not following.cancelled():
            following.result()  # a defect in telling is told, too
        failure = node.status()["storage"]["failure"]
        narrator.tell("stopping", f"{node.name} stops")
        if isinstance(node, SingleMasterNode):
            await _hand_over(node, narrator, at_once)
    narrator.tell("stopped", f"{node.name} has stopped")
    if failure is not None:
        raise StorageError(f"the disk failed: {failure}")
    return Exit.OK


async def _hand_over(node: SingleMasterNode, narrator: Narrator, at_once: asyncio.Event) -> None:
    """Stop a node; where it was elected, another one takes over first, unless we are told *at_once* to leave."""
    handing, hurrying = asyncio.create_task(node.stop()), asyncio.create_task(at_once.wait())
    await asyncio.wait([handing, hurrying], return_when=asyncio.FIRST_COMPLETED)
    handing.cancel()
    hurrying.cancel()
    await asyncio.wait([handing, hurrying])
    if not handing.cancelled() and (to := handing.result()) is not None:
        narrator.tell("handed over", f"{to} leads now", to=to)


def _watch_input(loop: asyncio.AbstractEventLoop, told_to_stop: asyncio.Event) -> None:
    """Set *told_to_stop* when standard input ends, also by the death of who holds its other end. Raises UsageError."""

    def readable() -> None:
        try:
            ended = not os.read(0, 4096)
        except OSError:
            ended = True
        if ended:
            loop.remove_reader(0)
            told_to_stop.set()

    try:
        loop.add_reader(0, readable)
    except (OSError, ValueError):
        raise UsageError("--until-eof needs a pipe as standard input") from None


def _check_protected(option: str, address: str, protected: bool, protection: str) -> None:
    """Refuse, in the words of the command line, what the node would refuse."""
    if not protected and not is_loopback(address):
        raise UsageError(
            f"{option} {address} can be reached from other machines, and nothing protects it: "
            f"give {protection}, or say --insecure"
        )


def secret_of(path: Path | None) -> bytes | None:
    """The secret in a file: its bytes without the newline at their end. Raises UsageError."""
    if path is None:
        return None
    try:
        secret = path.read_bytes()
    except OSError as error:
        raise UsageError(f"the secret cannot be read from {path}: {error.strerror}") from None
    secret = secret.removesuffix(b"\n").removesuffix(b"\r")
    if not secret:
        raise UsageError(f"the secret file {path} is empty")
    return secret
