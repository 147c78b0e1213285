"""Nodes that speak TLS to each other, with certificates on both sides, and whom they let in."""

from __future__ import annotations

import ssl

import pytest
import trustme

import mmrepl
from mmrepl.errors import UsageError
from mmrepl.transport.tcp import TcpTransport
from tests.integration.nodes import QUICK, connected, converged


def contexts(authority, *, certified=True):
    """For a node: what it shows to whom it accepts and to whom it dials; with *certified* a certificate each way."""
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    issued = authority.issue_cert("127.0.0.1")
    issued.configure_cert(server)
    authority.configure_trust(server)
    authority.configure_trust(client)
    server.verify_mode = ssl.CERT_REQUIRED
    if certified:
        issued.configure_cert(client)
    return {"server_ssl": server, "client_ssl": client}


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def node(name, tls, *peers):
    return mmrepl.Node(name, limits=QUICK, peers=[peer.address for peer in peers], transport=TcpTransport(**tls))


async def test_nodes_of_one_authority_are_a_cluster(authority):
    """Everything that they do over TCP they do over TLS: they find each other, and acknowledge."""
    async with (
        node("paris", contexts(authority)) as paris,
        node("tokyo", contexts(authority), paris) as tokyo,
        node("lima", contexts(authority), paris) as lima,
    ):
        await connected(paris, tokyo, lima)
        await lima.put("k", "x" * 100_000, acks="all")
        assert [each.get("k") for each in (paris, tokyo)] == ["x" * 100_000] * 2
        await tokyo.put("k", 2)
        await converged(paris, tokyo, lima)
        assert paris.get("k") == 2


@pytest.mark.parametrize("stranger", ["plain", "uncertified", "of another authority"])
async def test_who_has_no_certificate_gets_no_hello(authority, stranger):
    """Nothing of it is heard, nothing is told to it, and the others do not mind."""
    tls = {
        "plain": {},
        "uncertified": contexts(authority, certified=False),
        "of another authority": contexts(trustme.CA()),
    }[stranger]
    async with (
        node("paris", contexts(authority)) as paris,
        node("tokyo", contexts(authority), paris) as tokyo,
        node("eve", tls, paris, tokyo) as eve,
    ):
        await eve.put("k", "from outside")
        await connected(paris, tokyo)
        await tokyo.put("k", 1, acks="all")
        assert not list(eve.core.up())
        assert eve.core.members.names() == ["eve"]
        assert "eve" not in paris.core.members.names()
        assert paris.get("k") == 1


async def test_with_tls_a_node_may_be_reached_from_elsewhere(authority):
    """As with a secret; with neither it has to be said aloud."""
    async with mmrepl.Node("paris", listen="0.0.0.0:0", transport=TcpTransport(**contexts(authority))) as paris:
        assert paris.address.startswith("0.0.0.0:")
    with pytest.raises(UsageError, match="TLS"):
        await mmrepl.Node("paris", listen="0.0.0.0:0").start()
