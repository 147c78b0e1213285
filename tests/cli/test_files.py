"""verify and backup."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from mmrepl import Replica, SingleMasterNode
from mmrepl.cli.exits import Exit
from mmrepl.storage import sqlite_schema as schema


@pytest.fixture
def store(tmp_path):
    """A store with a few operations of two replicas, closed."""
    path = tmp_path / "paris.db"
    with Replica("paris", path) as paris, Replica("tokyo") as tokyo:
        tokyo["k"] = 1
        paris["k"] = 2
        paris.merge(tokyo.delta())
        paris.table("drafts")["d"] = {"x": [1]}
    return path


def rows(path):
    with sqlite3.connect(path) as connection:
        found = list(connection.execute("SELECT position, at, crc, body FROM batches ORDER BY position"))
    connection.close()
    return found


def change(path, statement, *values):
    with sqlite3.connect(path) as connection:
        connection.execute(statement, values)
    connection.close()


def test_a_sound_store(run, store):
    """It says whose it is and what is in it, and changes nothing."""
    before = store.read_bytes()
    ran = run("verify", str(store), "--json")
    assert (ran.code, ran.json["sound"], ran.json["damage"], ran.json["doubt"]) == (Exit.OK, True, [], None)
    assert (ran.json["keys"], ran.json["operations"]) == (2, 3)
    assert ran.json["node"].startswith("paris~")
    assert "sound" in run("verify", str(store)).out
    assert store.read_bytes() == before


def test_a_flipped_bit(run, store):
    """The row is named, and the exit code is 4; the log tells what is sound."""
    position, _, _, body = rows(store)[0]
    change(store, "UPDATE batches SET body = ? WHERE position = ?", body[:-1] + bytes([body[-1] ^ 1]), position)
    ran = run("verify", str(store))
    assert ran.code == Exit.STORAGE
    assert f"batches {position}" in ran.out
    log = run("log", "--path", str(store), "--json")
    assert log.code == Exit.STORAGE
    assert "damaged" in log.err
    assert all(op["key"] for op in log.lines)


def test_a_row_that_makes_no_sense(run, store):
    """A batch with a right checksum that cannot be decoded is damage, too."""
    position, at, _, _ = rows(store)[-1]
    body = b"nonsense"
    crc = schema.batch_crc(position, at, body)
    change(store, "UPDATE batches SET body = ?, crc = ? WHERE position = ?", body, crc, position)
    ran = run("verify", str(store), "--json")
    assert ran.code == Exit.STORAGE
    assert [(damage["table"], damage["row"]) for damage in ran.json["damage"]] == [("batches", position)]
    assert run("verify", str(store), "--quick").code == Exit.STORAGE


def test_rows_that_do_not_fit_together(run, store):
    """Each row is sound, but the store would not open: only a look at the whole finds it."""
    change(store, "DELETE FROM batches WHERE position = ?", rows(store)[0][0])
    ran = run("verify", str(store), "--json")
    assert ran.code == Exit.STORAGE
    found = [damage["what"] for damage in ran.json["damage"]]
    assert any("does not continue" in what for what in found)
    quick = [damage["what"] for damage in run("verify", str(store), "--quick", "--json").json["damage"]]
    assert not any("does not continue" in what for what in quick)


def test_files_that_are_none(run, tmp_path):
    """No file, an empty one, another program's, a folder: one line each, and 4."""
    foreign, empty = tmp_path / "foreign", tmp_path / "empty"
    foreign.write_bytes(b"hello" * 1000)
    empty.write_bytes(b"")
    for path in (tmp_path / "none", foreign, tmp_path):
        for words in (("verify", str(path)), ("backup", str(tmp_path / "copy"), "--path", str(path))):
            ran = run(*words)
            assert (ran.code, ran.err.count("\n")) == (Exit.STORAGE, 1), words
    assert run("verify", str(empty)).code == Exit.STORAGE
    assert run("backup", str(tmp_path / "copy"), "--path", str(empty)).code == Exit.STORAGE
    assert empty.read_bytes() == b""
    assert not (tmp_path / "none").exists()


def test_a_store_in_use(run, store):
    """It is refused, not disturbed."""
    with Replica("paris", store) as paris:
        assert run("verify", str(store)).code == Exit.STORAGE
        assert run("log", "--path", str(store)).code == Exit.STORAGE
        ran = run("backup", str(store) + ".bak", "--path", str(store))
        assert (ran.code, "in use" in ran.err) == (Exit.STORAGE, True)
        paris["k"] = 3
    assert run("verify", str(store)).code == Exit.OK


def test_backup_and_restore(run, store, tmp_path):
    """The copy is sound, knows that it is a copy, and opens as a new incarnation with everything in it."""
    target = tmp_path / "backup.db"
    ran = run("backup", str(target), "--path", str(store), "--json")
    assert (ran.code, ran.json["target"]) == (Exit.OK, str(target))
    checked = run("verify", str(target), "--json").json
    assert checked["sound"]
    assert "backup" in checked["doubt"]
    assert run("backup", str(target), "--path", str(store)).code == Exit.OK  # an older backup is replaced
    with Replica("paris", target) as paris:
        assert paris.doubt
        assert paris.table("drafts")["d"] == {"x": [1]}
    assert run("verify", str(store), "--json").json["doubt"] is None  # the store itself is trusted as before


def test_a_target_in_the_way(run, store, tmp_path):
    """What is no backup is not overwritten."""
    target = tmp_path / "precious.txt"
    target.write_text("precious")
    assert run("backup", str(target), "--path", str(store)).code == Exit.USAGE
    assert target.read_text() == "precious"
    assert run("backup", str(store), "--path", str(store)).code == Exit.USAGE


def test_a_backup_of_a_running_node(run, hosted, tmp_path):
    """The node writes it, beside its own file; it is sound and has what was written before. In memory: refused."""
    oslo = hosted.start("oslo", path=tmp_path / "oslo.db")
    hosted.call(oslo.put("k", 1))
    ran = run("backup", "copy.db", "--node", oslo.client_address)
    assert (ran.code, str(tmp_path / "copy.db") in ran.out) == (Exit.OK, True)
    assert run("verify", str(tmp_path / "copy.db"), "--json").json["keys"] == 1
    assert run("backup", "../copy.db", "--node", oslo.client_address).code == Exit.USAGE
    assert run("backup", "oslo.db", "--node", oslo.client_address).code == Exit.USAGE
    hosted.call(oslo.close())
    rome = hosted.start("rome")
    ran = run("backup", "copy.db", "--node", rome.client_address)
    assert (ran.code, "in memory" in ran.err) == (Exit.USAGE, True)


# -- of a single-master node


@pytest.fixture
def log_store(tmp_path):
    """The store of a single-master node that wrote a little, closed."""
    path = tmp_path / "lima.db"

    async def write():
        async with SingleMasterNode("lima", path, listen=None, failover="manual", primary=True) as node:
            await node.wait_for_leader()
            for number in range(3):
                await node.put("k", number)

    asyncio.run(write())
    return path


def test_a_sound_store_of_a_single_master_node(run, log_store):
    """It is sound, it says how far its log goes, and nothing is changed."""
    before = log_store.read_bytes()
    ran = run("verify", str(log_store), "--json")
    assert (ran.code, ran.json["sound"], ran.json["mode"]) == (Exit.OK, True, "single-master")
    assert ran.json["entries"] >= 3
    assert ran.json["node"].startswith("lima~")
    assert "entries of a single-master log, in term 1" in run("verify", str(log_store)).out
    assert log_store.read_bytes() == before
    assert run("verify", "--quick", str(log_store)).code == Exit.OK


def test_a_missing_row_of_a_log(run, log_store):
    """A row that is gone leaves a hole, which is named."""
    position = rows(log_store)[1][0]
    change(log_store, "DELETE FROM batches WHERE position = ?", position)
    ran = run("verify", str(log_store))
    assert ran.code == Exit.STORAGE
    assert "are missing" in ran.out


def test_a_flipped_bit_of_a_log(run, log_store):
    """The row is named."""
    position, _, _, body = rows(log_store)[-1]
    change(log_store, "UPDATE batches SET body = ? WHERE position = ?", body[:-1] + bytes([body[-1] ^ 1]), position)
    ran = run("verify", str(log_store))
    assert ran.code == Exit.STORAGE
    assert f"batches {position}" in ran.out


def test_the_log_of_a_single_master_store_is_not_told_as_operations(run, log_store):
    """It says so, and what can be done."""
    ran = run("log", "--path", str(log_store))
    assert ran.code == Exit.USAGE
    assert "log entries and no operations" in ran.err


def test_a_backup_of_a_single_master_store(run, log_store, tmp_path):
    """It is sound, and knows that it is a copy."""
    copy = tmp_path / "copy.db"
    assert run("backup", str(copy), "--path", str(log_store)).code == Exit.OK
    ran = run("verify", str(copy), "--json")
    assert (ran.code, ran.json["sound"]) == (Exit.OK, True)
    assert "backup" in ran.json["doubt"]
