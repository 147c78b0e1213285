"""The commands at nodes of a single-master cluster: each works, or says plainly that it is of the other mode."""

from __future__ import annotations

import asyncio
import io
import threading

import pytest
from rich.console import Console

from mmrepl import NodeId, SingleMasterNode, VersionVector
from mmrepl.cli.exits import Exit
from mmrepl.cli.status import members_grid, status_page
from mmrepl.wire.tokens import version_token


@pytest.fixture
def cluster(tmp_path):
    """A primary and its replica, on an event loop in a thread: their client addresses."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def call(coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(20)

    async def begin():
        paris = SingleMasterNode("paris", tmp_path / "paris.db", client="127.0.0.1:0", failover="manual", primary=True)
        nodes.append(await paris.start())
        await paris.wait_for_leader()
        await paris.put("begun", 1, table="other")  # its own membership is committed then
        tokyo = SingleMasterNode("tokyo", client="127.0.0.1:0", failover="manual", peers=[paris.address])
        nodes.append(await tokyo.start())
        async with asyncio.timeout(15):
            while "tokyo" not in {row["name"] for row in paris.status()["members"] if row["state"] != "disconnected"}:
                await paris.news()
        await paris.change_members(add=["tokyo"])

    nodes = []
    try:
        call(begin())
        yield nodes
    finally:
        for node in reversed(nodes):
            call(node.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def at(run, cluster):
    """Run a command at the primary, or at the replica."""

    def call(*words, replica=False):
        return run(*words, "--node", cluster[replica].client_address)

    return call


def test_reading_and_writing(at):
    """Writes at the primary; reads at either; a write at the replica says who takes it."""
    assert at("put", "k", "[1, 2]").code == Exit.OK
    assert at("get", "k").out.strip() == "[1,2]"
    read = at("read", "k")
    assert "one writer" in read.out
    assert "1970" not in read.out
    assert at("scan").out.split() == ["k"]
    refused = at("put", "k", "1", replica=True)
    assert refused.code == Exit.UNAVAILABLE
    assert "this node takes no writes: its primary is at 127.0.0.1" in refused.err
    assert at("delete", "k", replica=True).code == Exit.UNAVAILABLE
    assert at("delete", "k").code == Exit.OK
    assert at("delete", "k").code == Exit.NO


def test_what_is_of_the_other_mode(at):
    """Is refused in one line that says of which mode this node is."""
    ran = at("put", "k", "1", "--blind")
    assert ran.code == Exit.USAGE
    assert "a node of single-master mode" in ran.err
    foreign = at("watch", "--since", version_token(VersionVector({NodeId("oslo", 1): 3})))
    assert foreign.code == Exit.USAGE
    assert "a version vector of a multi-master cluster" in foreign.err


def test_the_log_is_told_and_watched_at_either_node(at, tmp_path):
    """Each write with its place, which is the same at every node and is where to go on."""
    for number in range(3):
        at("put", f"k{number}", str(number))
    at("delete", "k0")
    told = at("log", "--json").lines
    assert [(line["key"], line["value"], line["deleted"]) for line in told] == [
        ("begun", 1, False), ("k0", 0, False), ("k1", 1, False), ("k2", 2, False), ("k0", None, True),
    ]  # fmt: skip
    assert [line["dot"] for line in told] == [line["token"] for line in told]
    place = told[2]["token"]
    watched = at("watch", "--since", place, "--limit", "2", "--json", replica=True).lines
    assert watched == told[3:]
    people = at("watch", "--start", "--limit", "5", "--key", "k0", "--idle", "0.05")
    assert people.out.count("k0") == 2
    assert f"--since {told[-1]['token']}" in people.err
    assert at("watch", "--idle", "0.05").out == ""
    assert at("log", "--path", str(tmp_path / "paris.db"), "--since", place).code == Exit.USAGE
    assert at("watch", "--since", "3.x").code == Exit.USAGE


def test_status_and_members(at):
    """Who is what, in which term, and how far."""
    told = at("status").out
    assert "paris  primary" in told
    assert "term" in told
    assert "paris takes writes" in told
    assert "a quorum has it on disk" in told
    assert "paris takes writes" in at("status", replica=True).out
    rows = at("members", "--json").json
    assert {row["name"]: row["role"] for row in rows} == {"paris": "primary", "tokyo": "voter"}
    assert "primary" in at("members").out


def test_each_trouble_of_the_status_has_its_line(at):
    """What can be wrong is shown, where it is."""
    found = at("status", "--json").json
    branch = {"branch": "4.1-6.1", "writes": 3, "keys": 2, "kept": "2026-01-01T00:00:00Z"}
    found |= {
        "leader": "", "role": "candidate", "branches": [branch], "blocked": ["oslo"], "doubt": "it was restored",
        "warnings": ["look here"], "ack": 1, "log": found["log"] | {"first": 9, "last": 8},
    }  # fmt: skip
    found["storage"] |= {"failure": "the disk is gone"}
    found["members"].append(found["members"][1] | {"name": "oslo", "state": "failing", "role": "no member"})
    console = Console(file=io.StringIO(), width=200)
    console.print(status_page(found))
    told = console.file.getvalue()
    for text in (
        "nobody is known to take writes", "4.1-6.1: 3 writes to 2 keys", "cut off from oslo", "it was restored",
        "! look here", "1 replica has it", "cut after entry 8", "the disk is gone", "no member",
    ):  # fmt: skip
        assert text in told
    assert members_grid(found["members"]).row_count == 3


def test_what_the_primary_alone_can_do_may_be_asked_of_any_node(at):
    """The command is told who is the primary, says so, and asks there."""
    refused = at("add", "oslo", replica=True)
    assert "is not the primary: 127.0.0.1:" in refused.err
    assert "'oslo' is not connected" in refused.err
    removed = at("remove", "tokyo", "--json", replica=True)
    assert removed.code == Exit.OK
    assert [row["name"] for row in removed.json["members"] if row["role"] != "no member"] == ["paris"]


def test_who_was_removed_is_not_told_as_a_member(at):
    """Though it may still be connected."""
    assert "tokyo is taken out; there are paris\n" in at("remove", "tokyo").out


def test_backup_and_verify(at, run, tmp_path):
    """A running node copies its file, and the copy is sound; its own file is in use."""
    at("put", "k", "1")
    assert at("backup", "copy.db").code == Exit.OK
    assert run("verify", str(tmp_path / "copy.db")).code == Exit.OK
    assert run("verify", str(tmp_path / "paris.db")).code == Exit.STORAGE
