"""Many writes at once are so many writes, made together."""

from __future__ import annotations

import pytest

import mmrepl
from mmrepl.errors import AckTimeout, ClockAhead, InvalidKey, InvalidValue
from mmrepl.runtime.node import Node


async def test_each_write_is_what_put_would_have_made():
    """New keys, one given twice, one of several writers: values, dots and contexts are those of so many puts."""
    items = [("new", 1), ("twice", 1), ("twice", 2), ("theirs", {"a": [1]}), ("ours", None)]
    found = []
    for at_once in (True, False):
        async with (
            Node("tokyo") as tokyo,
            Node("paris", peers=[tokyo.address]) as paris,
        ):
            await paris.wait_connected("tokyo")
            await tokyo.put("theirs", 0)
            await paris.put("ours", 0)
            await paris.wait_until(lambda paris=paris: paris.get("theirs") == 0, "tokyo's write")
            if at_once:
                receipts = list(await paris.put_many(items))
            else:
                receipts = [await paris.put(key, value) for key, value in items]
            contexts = [sorted((n.name, c) for n, c in receipt.context.vector.items()) for receipt in receipts]
            counters = [receipt.dot.counter for receipt in receipts]
            values = {key: paris.read(key).value for key in paris.keys()}  # noqa: SIM118 - a node is no mapping
            contexts[1] = []  # of the first write of a key given twice: the receipt was made after the second
            await tokyo.wait_until(
                lambda tokyo=tokyo, paris=paris: tokyo.version == paris.version, "all that paris wrote"
            )
            assert {key: tokyo.get(key) for key in tokyo.keys()} == values  # noqa: SIM118
            paris.core.check()
            found.append((contexts, counters, values))
    assert found[0] == found[1]


async def test_all_or_none_are_written():
    """A key or value in the midst that is none, or a clock that is ahead: nothing was written."""
    async with Node("paris") as paris:
        with pytest.raises(InvalidKey):
            await paris.put_many([("a", 1), ("", 2)])
        with pytest.raises(InvalidValue):
            await paris.put_many({"a": 1, "b": {1, 2}})
        hlc = paris.core.local.store.hlc
        hlc.ceiling = hlc.last = 5
        paris.core.look_at_clocks = lambda now_ms: None
        with pytest.raises(ClockAhead):
            await paris.put_many({"a": 1, "b": 2})
        assert not paris.version
        assert paris.count() == 0


async def test_none_is_some_number_of_writes_too():
    """Nothing to write is no error, and has no receipts; some can be sliced."""
    async with Node("paris") as paris:
        assert list(await paris.put_many({}, acks="all")) == []
        receipts = await paris.put_many((key, 0) for key in "abc")
        assert [receipt.dot.counter for receipt in receipts[1:]] == [2, 3]
        assert receipts[-1] == receipts[2]


async def test_acknowledgements_are_waited_for_once():
    """With acks it returns when the last of them is confirmed by so many members, or says that they were written."""
    async with Node("tokyo") as tokyo, Node("paris", peers=[tokyo.address]) as paris:
        await paris.wait_connected("tokyo")
        await paris.put_many({f"{number}": number for number in range(100)}, acks=2)
        assert tokyo.count() == 100
        with pytest.raises(AckTimeout):
            await paris.put_many({"a": 1}, acks=3, timeout=0.05)
        assert paris.get("a") == 1


async def test_what_was_written_together_is_durable_together(tmp_path):
    """It waits for the disk, and one commit holds them all."""
    async with Node("paris", tmp_path / "paris.db") as paris:
        commits = []
        commit = paris._driver._storage.commit
        paris._driver._storage.commit = lambda one, level: (commits.append(one), commit(one, level))
        await paris.put_many({f"{number}": number for number in range(100)})
        assert paris.core.local.durable == 101
        assert sum(bool(each.batches) for each in commits) == 1
    async with Node("paris", tmp_path / "paris.db") as paris:
        assert paris.count() == 100


def test_from_a_thread():
    """The blocking form takes one way to the node for all of them."""
    with mmrepl.BlockingNode("paris") as paris:
        receipts = paris.table("t").put_many({"a": 1, "b": 2})
        assert [receipt.dot.counter for receipt in receipts] == [1, 2]
        assert dict(paris.table("t")) == {"a": 1, "b": 2}


def test_of_an_embedded_replica(tmp_path):
    """A replica writes many in one commit, durable when the call returns; another one gets them all, once."""
    with mmrepl.Replica("paris", tmp_path / "paris.db") as paris:
        commits = []
        commit = paris._storage.commit
        paris._storage.commit = lambda one, level: (commits.append(one), commit(one, level))
        receipts = paris.table("t").put_many((str(number), number) for number in range(100))
        assert sum(bool(each.batches) for each in commits) == 1
        assert receipts[99].dot.counter == 100
        with mmrepl.Replica("tokyo") as tokyo:
            assert tokyo.merge(paris.delta()).fresh == 100
            assert dict(tokyo.table("t")) == dict(paris.table("t"))
    with mmrepl.Replica("paris", tmp_path / "paris.db") as paris:
        assert len(paris.table("t")) == 100


@pytest.mark.parametrize("kind", [mmrepl.Replica, mmrepl.BlockingNode])
def test_update_is_that_of_a_dict_but_all_or_none(kind):
    """A mapping, pairs, keywords; and what is no value in the midst of it leaves everything as it was."""
    with kind("paris") as paris:
        expected = {"a": 0}
        paris["a"] = 0
        for arguments, more in (({"b": 1, "a": 2},), {}), (([("c", 3), ("c", 4)],), {"d": 5}), ((), {}):
            paris.update(*arguments, **more)
            expected.update(*arguments, **more)
            assert dict(paris) == expected
        with pytest.raises(InvalidValue):
            paris.update({"a": 1, "b": {1}})
        assert dict(paris) == expected


def test_siblings_that_many_writes_end_are_told():
    """Whoever listens hears of each key whose siblings vanish."""
    with mmrepl.Replica("paris") as paris, mmrepl.Replica("tokyo") as tokyo:
        heard = []
        for replica in (paris, tokyo):
            replica.put_many({"a": replica.node, "b": replica.node})
        paris.merge(tokyo.delta())
        paris.on_siblings(heard.append)
        receipts = paris.put_many({"a": 1, "c": 2, "b": 3})
        assert sorted(event.key for event in heard if event.kind == "vanished") == ["a", "b"]
        assert len(receipts[0].context.vector) == 2
        paris.check()
