"""What happens to a running node when its disk, its port, its file or its callbacks are not as they should be."""

from __future__ import annotations

import asyncio
import os
import sqlite3

import pytest

import mmrepl
from mmrepl.errors import (
    ClosedError,
    DiskFull,
    ResolverError,
    StorageError,
    StoreFailed,
    StoreForeign,
    StoreTooNew,
    UsageError,
)
from mmrepl.ports import Durability
from mmrepl.resolvers import Callback
from mmrepl.runtime import driver as driver_module
from mmrepl.storage import SqliteStorage
from mmrepl.storage.memory import MemoryDisk, MemoryStorage
from tests.integration.nodes import PATIENCE, QUICK, cluster, connected, until


class Moody(MemoryStorage):
    """A storage that raises *mood* from its commits, until it is in a better one."""

    def __init__(self, disk):
        super().__init__(disk)
        self.mood = None

    def commit(self, commit, durability):
        if self.mood is not None:
            raise self.mood
        super().commit(commit, durability)


@pytest.fixture
def soon(monkeypatch):
    """A full disk is tried again at once."""
    monkeypatch.setattr(driver_module, "DISK_FULL_SECONDS", 0.005)


# -- the disk fills up


async def test_a_disk_that_fills_up_while_running_refuses_and_recovers(tmp_path, soon):
    """Whose write met it is told that it waits; further ones are refused whole; with room again all is there."""
    storage = SqliteStorage(tmp_path / "paris.db")
    async with (
        mmrepl.Node("paris", storage=storage, limits=QUICK) as paris,
        mmrepl.Node("tokyo", limits=QUICK, peers=[paris.address]) as tokyo,
    ):
        await connected(paris, tokyo)
        await paris.put("before", 1, acks=2)
        storage._connection.execute("PRAGMA max_page_count=20")
        with pytest.raises(DiskFull) as caught:
            await paris.put("waits", "x" * 500_000)
        assert not caught.value.definite
        assert "do not repeat" in str(caught.value)
        with pytest.raises(DiskFull) as caught:
            await paris.put("refused", 1)
        assert caught.value.definite
        assert paris.get("refused") is None
        assert paris.status()["storage"]["full"]
        assert tokyo.get("waits") is None
        await tokyo.put("others", 1)
        storage._connection.execute("PRAGMA max_page_count=1000000")
        await until(paris, lambda: paris.status()["storage"]["full"] is None, "there is room again")
        await paris.put("after", 2, acks=2, timeout=PATIENCE)
        assert tokyo.get("waits") == "x" * 500_000
        await until(paris, lambda: paris.get("others") == 1, "what came meanwhile")
    async with mmrepl.Node("paris", tmp_path / "paris.db") as paris:
        assert paris.doubt is None
        assert paris.get("waits") == "x" * 500_000
        assert (paris.get("before"), paris.get("after"), paris.get("refused")) == (1, 2, None)


async def test_closing_without_room_says_that_something_is_lost(soon):
    """Its writer was told before; who only answers at once, and syncs later, hears it here."""
    disk = MemoryDisk()
    storage = Moody(disk)
    paris = mmrepl.Node("paris", storage=storage, limits=QUICK)
    await paris.start()
    await paris.put("k", 1, durability="batch")  # the first of a run waits for its mark; the next do not
    storage.mood = DiskFull("no space left")
    await paris.put("lost", 2, durability="batch")
    await until(paris, lambda: paris.status()["storage"]["full"], "it was met")
    with pytest.raises(DiskFull, match="1 operations") as caught:
        await paris.close()
    assert not caught.value.definite
    storage.mood = None
    async with mmrepl.Node("paris", storage=MemoryStorage(disk)) as paris:
        assert (paris.get("k"), paris.get("lost")) == (1, None)


# -- the disk fails


@pytest.mark.parametrize("mood", [StoreFailed("fsync said EIO"), StorageError("too large"), RuntimeError("unforeseen")])
async def test_a_disk_that_fails_acknowledges_nothing_more(mood):
    """Neither to the writer, nor to peers, nor later; reads go on, and so do the others."""
    storage = Moody(MemoryDisk())
    async with (
        mmrepl.Node("paris", storage=storage, limits=QUICK) as paris,
        mmrepl.Node("tokyo", limits=QUICK, peers=[paris.address]) as tokyo,
    ):
        await connected(paris, tokyo)
        await paris.put("k", 1, acks=2)
        storage.mood = mood
        with pytest.raises(StorageError):
            await paris.put("k", 2, acks=2)
        storage.mood = None
        with pytest.raises(StorageError):
            await paris.put("k", 3)
        assert paris.status()["storage"]["failure"]
        await tokyo.put("l", 1)
        await until(paris, lambda: paris.get("l") == 1, "reads go on")
        assert tokyo.get("k") == 1
        assert tokyo.core.hearsay.known("paris").counter(tokyo.core.local.store.node) == 0


async def test_waiting_for_acknowledgements_ends_when_the_disk_fails():
    """Nobody waits for what will not come."""
    storage = Moody(MemoryDisk())
    async with mmrepl.Node("paris", storage=storage, limits=QUICK, peers=["127.0.0.1:1"]) as paris:
        waiting = asyncio.ensure_future(paris.put("k", 1, acks=2, timeout=PATIENCE))
        await until(paris, lambda: paris.core.local.durable_vector, "it is durable here")
        storage.mood = StoreFailed("fsync said EIO")
        with pytest.raises(StoreFailed):
            await paris.put("k", 2)
        with pytest.raises(StoreFailed):
            await waiting


async def test_a_defect_in_the_core_stops_the_node_and_says_so(monkeypatch):
    """It does not go on wrong, and does not keep anybody waiting; the other node sees it go."""
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context["message"]))
    async with cluster("paris", "tokyo") as (paris, tokyo):
        monkeypatch.setattr(paris.core, "ready", lambda *_, **__: 1 / 0)
        waiting = asyncio.ensure_future(paris.put("k", 1, acks=2, timeout=PATIENCE))
        with pytest.raises(StoreFailed, match="ZeroDivisionError"):
            await waiting
        with pytest.raises(StoreFailed):
            await paris.put("k", 2)
        await until(tokyo, lambda: not list(tokyo.core.up()), "it is gone")
    assert any("the node stops" in text for text in told)


# -- files


async def test_a_file_of_another_program_is_refused_and_not_touched(tmp_path):
    """Neither text nor somebody else's database."""
    (tmp_path / "text").write_text("hello\n" * 1000)
    connection = sqlite3.connect(tmp_path / "other.db")
    connection.execute("CREATE TABLE t (x)")
    connection.commit()
    connection.close()
    for name in ("text", "other.db"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(StoreForeign):
            await mmrepl.Node("paris", tmp_path / name).start()
        assert (tmp_path / name).read_bytes() == before


async def test_a_file_of_a_later_version_is_refused_and_not_touched(tmp_path):
    """With the advice to upgrade."""
    async with mmrepl.Node("paris", tmp_path / "paris.db") as paris:
        await paris.put("k", 1)
    connection = sqlite3.connect(tmp_path / "paris.db")
    connection.execute("PRAGMA user_version=9999")
    connection.commit()
    connection.close()
    with pytest.raises(StoreTooNew, match="upgrade"):
        await mmrepl.Node("paris", tmp_path / "paris.db").start()


async def test_places_where_no_file_can_be_are_refused(tmp_path):
    """A folder, a folder that is not there, a folder below a file."""
    (tmp_path / "file").write_text("")
    for place in (tmp_path, tmp_path / "nowhere" / "p.db", tmp_path / "file" / "p.db"):
        with pytest.raises(StorageError) as caught:
            await mmrepl.Node("paris", place).start()
        assert str(tmp_path) in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
async def test_a_read_only_folder_is_refused(tmp_path):
    """Before anything is minted."""
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StorageError):
            await mmrepl.Node("paris", tmp_path / "p.db").start()
    finally:
        tmp_path.chmod(0o700)


# -- ports


async def test_a_port_in_use_is_named_and_nothing_is_left_open(tmp_path):
    """The same node can be started when the port is free; its file was released meanwhile."""
    path = tmp_path / "tokyo.db"
    async with mmrepl.Node("paris") as paris:
        tokyo = mmrepl.Node("tokyo", path, listen=paris.address)
        with pytest.raises(OSError, match=paris.address):
            await tokyo.start()
        async with mmrepl.Node("tokyo", path):
            pass
    await tokyo.start()
    assert tokyo.doubt is None
    await tokyo.put("k", 1)
    await tokyo.close()


async def test_a_client_port_in_use_leaves_nothing_open_either(tmp_path):
    """Neither the peers' port nor the file."""
    async with mmrepl.Node("paris") as paris:
        with pytest.raises(OSError):
            await mmrepl.Node("tokyo", tmp_path / "t.db", client=paris.address).start()
        async with mmrepl.Node("tokyo", tmp_path / "t.db"):
            pass


async def test_an_address_beyond_loopback_needs_a_secret_or_a_word():
    """Otherwise anybody might write."""
    with pytest.raises(UsageError, match="secret"):
        await mmrepl.Node("paris", listen="0.0.0.0:0").start()
    for protected in ({"secret": "s3cret"}, {"insecure": True}):
        async with mmrepl.Node("paris", listen="0.0.0.0:0", **protected):
            pass


@pytest.mark.parametrize("address", ["nonsense", "host:port", ":1", "host:99999", "a" * 70 + ":1", "host.invalid:1"])
async def test_a_peer_address_that_leads_nowhere_harms_nobody(address):
    """It is tried for ever, with back-off; everybody else is served."""
    async with (
        mmrepl.Node("paris", limits=QUICK, peers=[address]) as paris,
        mmrepl.Node("tokyo", limits=QUICK, peers=[paris.address]) as tokyo,
    ):
        await connected(paris, tokyo)
        await paris.put("k", 1, acks=2, timeout=PATIENCE)
        assert any(address in text for text in paris.status()["warnings"])
        paris.remove(address)
        assert not paris.status()["waiting_for"]


# -- callbacks


async def test_a_resolver_that_raises_is_named_and_the_siblings_stay():
    """The node goes on; writing with the context of a read settles the key."""

    def merge(_values):
        raise RuntimeError("no idea")

    async with cluster("paris", "tokyo", tables={"t": Callback(merge)}) as (paris, tokyo):
        paris.block("tokyo")
        await paris.put("k", 1, table="t")
        await tokyo.put("k", 2, table="t")
        paris.unblock()
        await until(paris, lambda: tokyo.core.local.store.node in paris.version, "both are here")
        for _ in range(2):
            with pytest.raises(ResolverError, match="no idea") as caught:
                paris.get("k", table="t")
            assert len(caught.value.siblings) == 2
            assert "'k'" in str(caught.value)
        store = paris.core.local.store
        context = store.context(store.table("t"), "k")
        await paris.put("k", 3, table="t", context=context, acks=2, timeout=PATIENCE)
        assert paris.get("k", table="t") == 3
        assert tokyo.get("k", table="t") == 3


# -- bad arguments


@pytest.mark.parametrize("table", ["x" * 2000, "\ud800", 7])
async def test_a_table_name_that_no_peer_would_take_is_refused(table):
    """It would stop this node's stream at every peer, for good."""
    async with cluster("paris", "tokyo") as (paris, tokyo):
        with pytest.raises(UsageError):
            await paris.put("k", 1, table=table)
        await paris.put("k", 1, acks=2)
        assert tokyo.get("k") == 1


async def test_everything_is_refused_after_closing(tmp_path):
    """By name, at once; and who waited is told."""
    paris = mmrepl.Node("paris", limits=QUICK, peers=["127.0.0.1:1"])
    await paris.start()
    waiting = asyncio.ensure_future(paris.put("k", 1, acks=2, timeout=PATIENCE))
    changes = asyncio.ensure_future(_last(paris))
    await asyncio.sleep(0)
    await paris.close()
    await paris.close()
    with pytest.raises(ClosedError):
        await waiting
    with pytest.raises(ClosedError):
        await changes
    with pytest.raises(ClosedError, match="paris"):
        await paris.put("k", 1)
    with pytest.raises(ClosedError):
        paris.get("k")
    assert "not running" in repr(paris)
    assert Durability.parse("sync") is Durability.SYNC


async def _last(node):
    async for _ in node.changes():
        pass
