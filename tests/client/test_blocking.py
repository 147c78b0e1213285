"""The client for threads: the same calls, a bound on every wait, nothing left behind."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mmrepl import BlockingNode, NodeId, VersionVector, errors
from mmrepl.client.blocking import BlockingClient
from mmrepl.client.sessions import SessionState
from mmrepl.resolvers import KeepSiblings
from tests.client.servers import QUICK


@pytest.fixture
def node():
    with BlockingNode("paris", client="127.0.0.1:0", tables={"drafts": KeepSiblings()}) as paris:
        yield paris


def test_every_call(node, monkeypatch):
    """As the asynchronous ones."""
    monkeypatch.setattr("mmrepl.client.client.PAGE_KEYS", 2)
    monkeypatch.setattr("mmrepl.client.blocking.PAGE_KEYS", 2)
    with BlockingClient(node.client_address, **QUICK) as client:
        context = client.put("k", {"a": b"\xff"}).context
        assert client.get("k") == node["k"] == {"a": b"\xff"}
        assert client.read("k").context == context
        assert client.contains("k")
        drafts = client.table("drafts")
        drafts.put("d", 1, durability="none")
        assert drafts.get("d") == [1]
        assert client.command("DBSIZE", writes=False) == 1
        session = client.session()
        for number in range(4):
            session.put(f"s{number}", number)
        assert list(session.keys("s")) == ["s0", "s1", "s2", "s3"]
        assert client.session(session.token).get("s3") == 3
        session.table("drafts").delete("d")
        assert client.delete("nope") is None
        assert client.status()[0]["name"] == "paris"
        assert "1 of 1 nodes up" in repr(client)
        assert (drafts.name, client.name) == ("drafts", "")
    assert "not running" in repr(client)


def test_many_threads_share_it(node):
    """Calls from any number of threads, over few connections."""
    with BlockingClient(node.client_address, **QUICK) as client, ThreadPoolExecutor(8) as workers:
        list(workers.map(lambda number: client.put(f"k{number}", number), range(100)))
        assert list(workers.map(lambda number: client.get(f"k{number}"), range(100))) == list(range(100))
        assert client.status()[0]["connections"] <= 4


def test_after_its_end(node):
    """Closing twice does no harm; calls are refused."""
    client = BlockingClient(node.client_address, **QUICK).start()
    client.close()
    client.close()
    with pytest.raises(errors.ClosedError):
        client.get("k")


def test_a_refusal_at_the_start_leaves_nothing():
    """The wrong password: an error, and no thread (which the fixture of all tests looks for)."""
    with BlockingNode("paris", client="127.0.0.1:0", client_password="hush") as node:
        client = BlockingClient(node.client_address, password="x", **QUICK)
        with pytest.raises(errors.UsageError, match="refuses"):
            client.start()


def test_ctrl_c_breaks_off_the_wait_and_nothing_else(node):
    """A call that waits for what does not come is interrupted; the client goes on."""
    with BlockingClient(node.client_address, **QUICK) as client:
        session = client.session(_ahead())

        def interrupt():
            while not client.status()[0]["under_way"]:
                pass
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            session.get("k")
        thread.join()
        client.put("k", 1)
        assert client.get("k") == 1


def _ahead() -> str:
    """A token of a session that has seen a write which nobody here will ever have."""
    return SessionState(written=VersionVector({NodeId("nobody", 1): 1})).token
