"""
Where a node listens and where its peers are, as people write it: ``host:port``.

An IPv6 host stands in brackets, ``[::1]:7401``. Without a host, ``:7401``, it is loopback: a node is reached from
other machines only if somebody said so (``0.0.0.0:7401`` or ``[::]:7401``). Port 0 asks for any free port.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from mmrepl.errors import UsageError

LOOPBACK = "127.0.0.1"


class Address(NamedTuple):
    """
    A host and a port.

    >>> str(Address("::1", 7401))
    '[::1]:7401'
    """

    host: str  # a name or an IP address, without brackets; never empty
    port: int  # 0 <= port < 65536

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """
    The inverse of ``str``.

    >>> parse_address("[::1]:7401")
    Address(host='::1', port=7401)
    >>> parse_address(":0")
    Address(host='127.0.0.1', port=0)

    Raises:
        UsageError: anything else; the message shows the form that is expected.
    """
    if not isinstance(text, str):
        raise UsageError(f"an address is a str such as 'host:port', not {text!r}")
    host, colon, digits = text.rpartition(":")
    if not colon:
        raise UsageError(f"no port in the address {text!r}: expected host:port")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 5 and int(digits) < 65536):
        raise UsageError(f"{digits!r} in the address {text!r} is no port: expected a number below 65536")
    if host.startswith("[") and host.endswith("]"):
        return Address(_ipv6(host[1:-1], text), int(digits))
    if ":" in host:
        raise UsageError(f"the address {text!r} has several colons: write an IPv6 address as [::1]:7401")
    if host:
        _check_name(host, text)
    return Address(host or LOOPBACK, int(digits))


def is_loopback(address: str | Address) -> bool:
    """
    Whether only this machine can reach *address*. Names are not looked up: of them only ``localhost`` is.

    >>> is_loopback("127.0.0.1:7401"), is_loopback("[::1]:7401"), is_loopback("0.0.0.0:7401")
    (True, True, False)
    """
    host = (parse_address(address) if isinstance(address, str) else address).host
    try:
        ip = ip_address(host)
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped.is_loopback
    return ip.is_loopback


def _ipv6(host: str, text: str) -> str:
    try:
        return str(IPv6Address(host))
    except ValueError:
        raise UsageError(f"{host!r} in the address {text!r} is no IPv6 address") from None


def _check_name(host: str, text: str) -> None:
    if not host.isprintable() or not {" ", "/", "@", "[", "]", "%"}.isdisjoint(host):
        raise UsageError(f"{host!r} in the address {text!r} is no host: expected host:port")
    try:
        host.encode("idna")
    except UnicodeError as error:
        raise UsageError(f"{host!r} in the address {text!r} is no host: {error}") from None
