"""watch and log."""

from __future__ import annotations

import signal

import pytest

from mmrepl import NodeId, Replica
from mmrepl.cli.exits import Exit


@pytest.fixture(scope="module")
def lima(hosted):
    """A node of its own, so that what is in its log is known."""
    node = hosted.start("lima")

    async def write():
        await node.put("a", 1)
        await node.put("b", "two", table="drafts")
        await node.delete("a")

    hosted.call(write())
    return node


@pytest.fixture
def ask(run, lima):
    return lambda *words: run(*words, "--node", lima.client_address)


def test_the_log_of_a_node(ask, lima):
    """Every operation, in order, with its dot; what was overwritten may be left out, and the rest not."""
    found = ask("log", "--json").lines
    assert [(op["dot"].rpartition(":")[2], op["key"], op["deleted"]) for op in found][-2:] == [
        ("2", "b", False),
        ("3", "a", True),
    ]
    assert found[-1]["timestamp"].isdecimal()
    shown = ask("log").out
    assert 'drafts/b  "two"' in shown
    assert "deleted" in shown


def test_parts_of_the_log(ask):
    """By table, by key, the last few, the first few; tokens say where to go on."""
    assert [op["key"] for op in ask("log", "--json", "--table", "drafts").lines] == ["b"]
    assert [op["key"] for op in ask("log", "--json", "--key", "a*").lines][-1] == "a"
    assert [op["deleted"] for op in ask("log", "--json", "--last", "1").lines] == [True]
    first = ask("log", "--json", "--limit", "1").lines
    assert len(first) == 1
    rest = ask("log", "--json", "--since", first[0]["token"]).lines
    assert [op["dot"] for op in first + rest] == [op["dot"] for op in ask("log", "--json").lines]


def test_watching_from_a_place(ask):
    """It tells what is there, waits for more, and ends when nothing has come for so long."""
    found = ask("watch", "--start", "--json", "--idle", "0.05").lines
    assert [op["dot"] for op in found] == [op["dot"] for op in ask("log", "--json").lines]
    again = ask("watch", "--since", found[-1]["token"], "--json", "--idle", "0.05")
    assert (again.code, again.lines) == (Exit.OK, [])


def test_watching_what_comes(process, ask, hosted, lima):
    """An operation is told as it comes; then Ctrl-C ends it, with 130 and without a complaint."""
    token = ask("log", "--json").lines[-1]["token"]
    watch = process("watch", "--since", token, "--node", lima.client_address, "--json")
    hosted.call(lima.put("later", [1]))
    assert watch.line()["value"] == [1]
    ran = watch.end(signal.SIGINT)
    assert (ran.code, ran.err) == (Exit.INTERRUPTED, "")


def test_tokens_for_people(ask):
    """Without JSON, the way to go on is told beside the answer."""
    assert "mmrepl watch --since" in ask("watch", "--idle", "0.01").err


def test_the_log_in_a_file(run, tmp_path):
    """A file tells the same operations as the replica that wrote it, and is not changed by looking."""
    path = tmp_path / "store.db"
    with Replica("paris", path) as paris:
        paris["k"] = "old"
        paris.table("drafts")["k"] = b"\xff"
        paris.delete("k")
        expected = [(str(op.dot), op.table, op.key, op.is_tombstone) for op in paris.changes()]
    before = path.read_bytes()
    found = run("log", "--path", str(path), "--json").lines
    assert [(op["dot"], op["table"], op["key"], op["deleted"]) for op in found][-len(expected) :] == expected
    assert path.read_bytes() == before
    assert len(run("log", "--path", str(path), "--last", "1").out.splitlines()) == 1
    assert len(run("log", "--path", str(path), "--limit", "1", "--json").lines) == 1
    assert [op["key"] for op in run("log", "--path", str(path), "--json", "--table", "drafts").lines] == ["k"]


def test_contexts_in_a_file(run, tmp_path):
    """An operation that overwrote what others wrote says so."""
    path = tmp_path / "store.db"
    with Replica("paris", path) as paris, Replica("tokyo") as tokyo:
        tokyo["k"] = 1
        paris.merge(tokyo.delta())
        paris["k"] = 2
        origin = NodeId.parse(tokyo.node)
    last = run("log", "--path", str(path), "--json").lines[-1]
    assert last["context"] == {str(origin): 1}
