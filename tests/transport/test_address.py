"""Addresses as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrepl.errors import UsageError
from mmrepl.transport.address import Address, is_loopback, parse_address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:7401", "127.0.0.1", 7401),
        ("[::1]:7401", "::1", 7401),
        ("[0:0::0:1]:0", "::1", 0),
        (":0", "127.0.0.1", 0),
        (":7401", "127.0.0.1", 7401),
        ("0.0.0.0:1", "0.0.0.0", 1),
        ("localhost:65535", "localhost", 65535),
        ("db_1.example.org.:7401", "db_1.example.org.", 7401),
        ("bücher.example:80", "bücher.example", 80),
        ("[fe80::1%eth0]:7401", "fe80::1%eth0", 7401),
    ],
)
def test_what_is_an_address(text, host, port):
    """Each form parses, and what is printed parses to the same."""
    assert parse_address(text) == (host, port)
    assert parse_address(str(parse_address(text))) == (host, port)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no port"),
        ("localhost", "no port"),
        ("localhost:", "no port"),
        ("::1:7401", r"brackets|\[::1\]:7401"),
        ("[::1]", "no port"),
        ("[::1", "several colons"),
        ("::1]:7401", r"\[::1\]:7401"),
        ("[localhost]:1", "no IPv6 address"),
        ("[]:1", "no IPv6 address"),
        ("a:65536", "below 65536"),
        ("a:-1", "no port"),
        ("a: 1", "no port"),
        ("a:1e3", "no port"),
        ("a:٣", "no port"),
        ("a:" + "9" * 10_000, "no port"),
        ("tcp://a:1", "several colons"),
        ("user@host:1", "no host"),
        ("a b:1", "no host"),
        ("a\n:1", "no host"),
        ("a\0:1", "no host"),
        ("a..b:1", "no host"),
        ("a" * 64 + ":1", "no host"),
        (None, "a str such as"),
        (7401, "a str such as"),
    ],
)
def test_what_is_none(text, words):
    """The caller is told what is wrong and what was expected."""
    with pytest.raises(UsageError, match=words):
        parse_address(text)


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_the_callers_error(text):
    """Nothing but UsageError escapes; what parses prints and parses back."""
    try:
        address = parse_address(text)
    except UsageError:
        return
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1", True),
        ("127.255.1.2", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("LocalHost.", True),
        ("0.0.0.0", False),
        ("::", False),
        ("::ffff:10.0.0.1", False),
        ("10.0.0.1", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
        ("2130706433", False),
    ],
)
def test_what_only_this_machine_reaches(host, ours):
    """Loopback is judged by the number, and of the names only localhost is."""
    assert is_loopback(Address(host, 7401)) is ours
    assert is_loopback(str(Address(host, 7401))) is ours
