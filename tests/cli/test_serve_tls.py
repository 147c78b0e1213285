"""serve with TLS between the nodes, as processes."""

from __future__ import annotations

import signal

import pytest
import trustme

from mmrepl.cli.exits import Exit
from mmrepl.cli.options import Reach
from mmrepl.cli.remote import Remote

PORTS = ("--listen", "127.0.0.1:0", "--client", "127.0.0.1:0", "--json")


def issue(authority, folder, name):
    """The options of a node with a certificate of that authority, in files."""
    authority.cert_pem.write_to_path(folder / f"{name}-authority.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / f"{name}.pem")
    return ("--tls-certificate", f"{name}.pem", "--tls-authority", f"{name}-authority.pem")


def until(node, kind):
    while (event := node.line())["event"] != kind:
        pass
    return event


@pytest.mark.parametrize("mode", ["multi-master", "single-master"])
def test_nodes_of_one_authority_find_each_other(process, tmp_path, mode):
    """What one writes the other has, over TLS: whoever speaks without it is told nothing."""
    authority = trustme.CA()
    manual = ("--mode", mode, "--failover", "manual", "--ack", "one") if mode == "single-master" else ()
    paris = process("serve", "paris", *PORTS, *issue(authority, tmp_path, "paris"), *manual,
                    *(("--primary",) if manual else ()))  # fmt: skip
    started = paris.line()
    tokyo = process(
        "serve", "tokyo", *PORTS, *issue(authority, tmp_path, "tokyo"), *manual, "--peer", started["address"]
    )
    until(tokyo, "live")
    with Remote(Reach(node=started["client"])) as remote:
        remote.put("k", 1)
        assert {row["name"]: row["state"] for row in remote.members()} == {"paris": "self", "tokyo": "live"}
    assert paris.end(signal.SIGTERM).code == Exit.OK
    assert tokyo.end(signal.SIGTERM).code == Exit.OK


@pytest.mark.parametrize("stranger", ["plain", "of another authority"])
def test_a_stranger_is_no_peer(process, tmp_path, stranger):
    """Without TLS, or with a certificate of somebody else, nobody gets as far as a hello."""
    authority = trustme.CA()
    paris = process("serve", "paris", *PORTS, *issue(authority, tmp_path, "paris"))
    started = paris.line()
    tls = () if stranger == "plain" else issue(trustme.CA(), tmp_path, "eve")
    eve = process("serve", "eve", *PORTS, *tls, "--peer", started["address"])
    there = eve.line()
    tokyo = process("serve", "tokyo", *PORTS, *issue(authority, tmp_path, "tokyo"), "--peer", started["address"])
    until(tokyo, "live")  # so much time the stranger had, too
    with Remote(Reach(node=started["client"])) as remote:
        assert "eve" not in {row["name"] for row in remote.members()}
    with Remote(Reach(node=there["client"])) as remote:
        assert {row["name"] for row in remote.members()} <= {"eve", None}


def test_with_tls_a_node_may_be_reached_from_elsewhere(process, tmp_path):
    """As with a secret."""
    tls = issue(trustme.CA(), tmp_path, "paris")
    paris = process("serve", "paris", "--listen", "0.0.0.0:0", "--client", "none", "--json", *tls)
    assert paris.line()["address"].startswith("0.0.0.0:")
    assert paris.end(signal.SIGTERM).code == Exit.OK
