"""Every bound and switch of the client port, in one place."""

from __future__ import annotations

from attrs import field, frozen, validators

_MIB = 1024 * 1024


@frozen(kw_only=True)
class ClientOptions:
    """
    What the client port allows. Each bound is met by an error that names it, or by closing that one connection.

    Sizes in bytes, times in seconds.
    """

    password: str | None = field(default=None, repr=False)  # None: everybody who can connect may do everything
    drills: bool = True  # whether MM.PARTITION and MM.HEAL are offered
    clients: int = field(default=1000, validator=validators.ge(1))  # connections at once

    # A bulk may be longer than any value that the store takes, so that a value that is too long is refused by
    # name instead of costing the connection; above this the length itself is refused.
    bulk_bytes: int = field(default=16 * _MIB, validator=validators.ge(1024))
    request_bytes: int = field(default=64 * _MIB, validator=validators.ge(1024))  # one command, all its arguments
    request_items: int = field(default=1_000_000, validator=validators.ge(16))  # arguments of one command
    reply_bytes: int = field(default=64 * _MIB, validator=validators.ge(1024))  # one answer of MGET, KEYS, …

    # Answers that a client has not taken yet: above it we stop reading from that client until it has taken some.
    unread_bytes: int = field(default=1 * _MIB, validator=validators.ge(1024))
    # A client that takes no answers, or leaves a command half sent, for this long is closed.
    stall_seconds: float = field(default=60.0, validator=validators.gt(0))
    # The longest wait of WAIT and of MM.CHANGES BLOCK; a timeout of 0 (for ever, in Redis) means this one.
    wait_seconds: float = field(default=300.0, validator=validators.gt(0))
    refusals: int = field(default=100, validator=validators.ge(1))  # commands refused before AUTH, then closed
    cursors: int = field(default=4096, validator=validators.ge(1))  # SCAN cursors remembered, the oldest go first
