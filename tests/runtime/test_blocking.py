"""A node for threads: the same node, every wait bounded, nothing broken by Ctrl-C, nobody left waiting."""

from __future__ import annotations

import inspect
import itertools
import linecache
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import _base as futures_base
from contextlib import ExitStack

import pytest

import mmrepl
from mmrepl import BlockingNode, Node, loop_thread
from mmrepl.errors import AckTimeout, ClosedError, InvalidValue, StoreFailed, UsageError, WaitTimeout, WrongContext
from mmrepl.ports import Durability
from mmrepl.resolvers import KeepSiblings
from mmrepl.runtime import change_feed
from mmrepl.storage.memory import MemoryStorage

PATIENCE = 20.0


@pytest.fixture
def paris():
    with BlockingNode("paris") as node:
        yield node


@pytest.fixture
def pair():
    """Two connected nodes whose default table keeps siblings."""
    with ExitStack() as stack:
        paris = stack.enter_context(BlockingNode("paris", default=KeepSiblings()))
        tokyo = stack.enter_context(BlockingNode("tokyo", default=KeepSiblings(), peers=[paris.address]))
        tokyo.wait_connected("paris", timeout=PATIENCE)
        paris.wait_connected("tokyo", timeout=PATIENCE)
        yield paris, tokyo


def in_thread(function):
    """Start *function* in a thread; the test joins it."""
    thread = threading.Thread(target=function)
    thread.start()
    return thread


class StuckStorage(MemoryStorage):
    """A disk that takes its time: commits after the first wait until they are let go."""

    def __init__(self):
        super().__init__()
        self.go = threading.Event()
        self.commits = 0

    def commit(self, commit, durability):
        self.commits += 1
        if self.commits > 1:
            assert self.go.wait(PATIENCE)
        super().commit(commit, durability)


# -- the same as the node


def test_it_takes_the_arguments_of_a_node():
    """Whatever can be said to a node can be said to the blocking one, with the same defaults."""
    assert inspect.signature(BlockingNode).parameters == inspect.signature(Node).parameters


def test_it_is_a_mapping(paris):
    """Put, get, delete, in, len, iteration in key order, both ways, in pages."""
    for number in range(1_200):
        paris.put(f"k{number:04}", number, durability="none")
    del paris["k0007"]
    names = [f"k{number:04}" for number in range(1_200) if number != 7]
    assert paris["k0003"] == 3
    assert paris.get("k0007", "gone") == "gone"
    assert "k0007" not in paris
    assert len(paris) == 1_199
    assert list(paris) == names
    assert list(reversed(paris)) == names[::-1]
    assert list(paris.range("k0005", "k0009")) == ["k0005", "k0006", "k0008"]
    assert list(paris.range("k0005", "k0009", reverse=True)) == ["k0008", "k0006", "k0005"]
    with pytest.raises(KeyError):
        paris["nothing"]
    with pytest.raises(KeyError):
        del paris["nothing"]


def test_tables_are_mappings_of_their_own(paris):
    """A key of one table is no key of another; writes of a table can wait for members too."""
    carts = paris.table("carts")
    carts.put("ada", ["tea"], acks=1)
    assert dict(carts) == {"ada": ["tea"]}
    assert "ada" not in paris
    assert paris.tables() == ["carts"]
    carts.delete("ada")
    assert not carts
    assert carts.name == "carts"
    assert paris.name == "paris"


def test_errors_are_the_node_s_own(paris):
    """What the node refuses is refused here, by the same error, and nothing was written."""
    with pytest.raises(InvalidValue):
        paris["k"] = object()
    paris["a"] = 1
    with pytest.raises(WrongContext):
        paris.put("b", 1, context=paris.read("a").context)
    with pytest.raises(UsageError):
        paris.block("nobody")
    with pytest.raises(UsageError):
        paris.put("k", 1, durability="perhaps")
    assert list(paris) == ["a"]


def test_siblings_are_read_and_replaced(pair):
    """Concurrent writes meet as siblings; the context of the read replaces them, everywhere."""
    paris, tokyo = pair
    paris.block("tokyo")
    paris["motto"] = "festina"
    tokyo["motto"] = "lente"
    with tokyo.changes(tokyo.version) as feed:
        paris.unblock()
        assert next(feed).value == "festina"
    read = tokyo.read("motto")
    assert sorted(read.value) == ["festina", "lente"]
    tokyo.put("motto", "festina lente", context=read.context, acks="all", timeout=PATIENCE)
    assert paris["motto"] == ["festina lente"]


def test_a_heal_does_not_wait_for_the_back_off():
    """Who is let in again is dialled at once, however long an address that fails would have to wait."""
    limits = mmrepl.Limits(reconnect_ms_min=600_000, reconnect_ms_max=600_000, gossip_tick_ms=600_000)
    with (
        BlockingNode("paris", limits=limits) as paris,
        BlockingNode("tokyo", limits=limits, peers=[paris.address]) as tokyo,
    ):
        tokyo.wait_connected("paris", timeout=PATIENCE)
        for _ in range(3):
            tokyo.block("paris")
            tokyo.unblock("paris")
            tokyo.wait_connected("paris", timeout=PATIENCE)


def test_status_and_members_are_there(pair):
    """What the node tells of itself, and how many events its listeners missed."""
    paris, tokyo = pair
    assert [row["name"] for row in paris.members()] == ["paris", "tokyo"]
    status = tokyo.status()
    assert status["name"] == "tokyo"
    assert status["address"] == tokyo.address
    assert status["events_dropped"] == 0
    assert repr(paris).startswith("<BlockingNode paris~")
    tokyo.leave()
    assert "not running" in repr(tokyo)
    paris["k"] = 1
    assert [row["name"] for row in paris.members()] == ["paris"]
    with pytest.raises(UsageError, match="no member"):
        paris.remove("tokyo")


def test_a_backup_is_made_while_it_runs(tmp_path):
    """The copy has what was committed, and does not trust itself to be the latest."""
    with BlockingNode("paris", tmp_path / "paris.db") as paris:
        paris["k"] = "v"
        paris.backup(tmp_path / "copy.db")
    with BlockingNode("paris", tmp_path / "copy.db") as copy:
        assert copy["k"] == "v"
        assert copy.doubt
        with pytest.raises(UsageError):
            BlockingNode("lima").backup(tmp_path / "none.db")


# -- threads


def test_many_threads_write_at_once(tmp_path):
    """Every write of every thread is there, each under a dot of its own, and after reopening."""
    with BlockingNode("paris", tmp_path / "paris.db") as paris, ThreadPoolExecutor(8) as threads:
        dots = list(threads.map(lambda number: paris.put(f"k{number}", number).dot, range(200)))
        assert len(set(dots)) == 200
        assert len(paris) == 200
    with BlockingNode("paris", tmp_path / "paris.db") as paris:
        assert sorted(paris.values()) == list(range(200))
        assert paris.doubt is None


def test_its_own_thread_may_not_wait_for_itself(paris):
    """A call from the event loop would wait for ever; it is refused at once."""
    refused = []

    def listener(_event):
        with pytest.raises(UsageError, match="own event loop") as refusal:
            paris["k"]
        refused.append(refusal)

    paris._node.on_siblings(listener)
    paris["k"] = 1
    paris.put("k", 2, context=mmrepl.BLIND)
    paris.status()
    assert len(refused) == 1


# -- changes


def test_changes_end_when_nothing_comes(paris):
    """With a timeout of zero the iteration tells what is here; its token is where to go on."""
    for number in range(5):
        paris[f"k{number}"] = number
    feed = paris.changes(timeout=0)
    assert [change.value for change in feed] == [0, 1, 2, 3, 4]
    assert list(feed) == []
    paris["k5"] = 5
    assert [change.value for change in paris.changes(feed.token, timeout=0)] == [5]


def test_the_token_covers_what_was_handed_out_and_nothing_more(paris):
    """Whoever stops in the middle of a page goes on with the next change."""
    for number in range(5):
        paris[f"k{number}"] = number
    with paris.changes() as feed:
        assert [next(feed).value, next(feed).value] == [0, 1]
    assert list(feed) == []
    assert [change.value for change in paris.changes(feed.token, timeout=0)] == [2, 3, 4]


def test_a_feed_waits_and_can_be_stopped_from_another_thread(paris):
    """What comes later is told at once; stopping wakes the thread that waits."""
    feed, told, got = paris.changes(), [], threading.Event()

    def listen():
        for change in feed:
            told.append(change.value)
            got.set()

    thread = in_thread(listen)
    paris["k"] = 1
    assert got.wait(PATIENCE)
    feed.stop()
    feed.stop()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert told == [1]
    assert list(feed) == []


def test_a_feed_hears_that_the_node_is_closed():
    """Nobody waits for changes of a node that is gone."""
    node = BlockingNode("paris").start()
    feed, heard, started = node.changes(), [], threading.Event()

    def listen():
        try:
            for _ in feed:
                started.set()
        except ClosedError as error:
            heard.append(error)

    thread = in_thread(listen)
    node["k"] = 1
    assert started.wait(PATIENCE)
    node.close()
    thread.join(PATIENCE)
    assert len(heard) == 1


# -- listeners


def test_listeners_may_use_the_node(paris):
    """They have a thread of their own; what one raises is reported there, and the others hear all the same."""
    reported, told, done = [], [], threading.Event()

    def broken(_event):
        raise RuntimeError("planted")

    def listener(event):
        told.append((event.kind, len(paris.read(event.key).siblings)))
        if len(told) == 2:
            done.set()

    old, threading.excepthook = threading.excepthook, reported.append
    try:
        paris.on_siblings(broken)
        paris.on_siblings(listener)
        paris.on_siblings(lambda _event: told.append("told after the end"))()
        paris["k"] = 1
        paris.put("k", 2, context=mmrepl.BLIND)
        paris.put("k", 3)
        assert done.wait(PATIENCE)
    finally:
        threading.excepthook = old
    assert [kind for kind, _ in told] == ["appeared", "vanished"]
    assert [str(report.exc_value) for report in reported] == ["planted", "planted"]


def test_events_beyond_the_bound_are_counted(paris):
    """A listener that is too slow loses events, never memory, and the loss shows in status."""
    paris._events._events_max = 3
    go, begun = threading.Event(), threading.Event()

    def listener(_event):
        begun.set()
        assert go.wait(PATIENCE)

    paris.on_siblings(listener)
    paris["k0"] = 0
    paris.put("k0", 1, context=mmrepl.BLIND)
    assert begun.wait(PATIENCE)
    for number in range(1, 7):
        paris[f"k{number}"] = 0
        paris.put(f"k{number}", 1, context=mmrepl.BLIND)
    assert paris.status()["events_dropped"] == 3
    go.set()


def test_a_listener_may_close_the_node():
    """It does not wait for itself to end."""
    node = BlockingNode("paris").start()
    closed = threading.Event()

    def listener(_event):
        node.close()
        closed.set()

    node.on_siblings(listener)
    node["k"] = 1
    node.put("k", 2, context=mmrepl.BLIND)
    assert closed.wait(PATIENCE)
    node.close()


# -- waits


def test_acknowledgements_that_do_not_come(paris):
    """The write is made; the error says how many confirmed it."""
    with pytest.raises(AckTimeout) as late:
        paris.put("k", 1, acks=2, timeout=0.05)
    assert (late.value.confirmed, late.value.wanted) == (1, 2)
    assert paris["k"] == 1
    with pytest.raises(UsageError, match="acks"):
        paris.put("k", 1, acks="some")


def test_a_disk_that_does_not_answer():
    """The wait for the disk ends in time, and says of which key; the write is not certain to have failed."""
    storage = StuckStorage()
    with BlockingNode("paris", storage=storage) as paris:
        with pytest.raises(WaitTimeout, match="key 'k'") as late:
            paris.put("k", 1, timeout=0.05)
        assert not late.value.definite
        assert paris["k"] == 1
        storage.go.set()
        paris["l"] = 2


def test_a_disk_that_fails():
    """Who waited is told, and so is whoever writes afterwards; closing raises nothing and ends the thread."""

    class Failing(MemoryStorage):
        def commit(self, commit, durability):
            if durability is Durability.SYNC and commit.batches:
                raise StoreFailed("planted")
            super().commit(commit, durability)

    with BlockingNode("paris", storage=Failing()) as paris:
        with pytest.raises(StoreFailed):
            paris["k"] = 1
        with pytest.raises(StoreFailed):
            paris["l"] = 1


def test_a_connection_that_does_not_come(paris):
    """The error names the peer."""
    with pytest.raises(WaitTimeout, match="lima"):
        paris.wait_connected("lima", timeout=0.05)


def test_who_waits_while_it_is_closed_is_told():
    """A write that waits for acknowledgements gets a ClosedError; later calls do at once; closing again is nothing."""
    node = BlockingNode("paris").start()
    heard, begun = [], threading.Event()

    def write():
        begun.set()
        try:
            node.put("k", 1, acks=2, timeout=PATIENCE)
        except ClosedError as error:
            heard.append(error)

    thread = in_thread(write)
    assert begun.wait(PATIENCE)
    node.close()
    thread.join(PATIENCE)
    assert len(heard) == 1
    node.close()
    for call in (
        lambda: node["k"],
        lambda: list(node),
        node.status,
        lambda: node.put("k", 1),
        lambda: next(node.changes()),
    ):
        with pytest.raises(ClosedError):
            call()
    with pytest.raises(UsageError, match="started already"):
        node.start()


def test_a_node_that_never_started():
    """It is closed as it should be, and says that it is not running."""
    node = BlockingNode("paris")
    with pytest.raises(ClosedError, match="not running"):
        node["k"]
    node.close()


def test_a_start_that_fails_leaves_nothing(tmp_path):
    """The error is the node's own; the thread has ended and the file can be opened."""
    with BlockingNode("paris") as taken, pytest.raises(OSError, match="listen"):
        BlockingNode("tokyo", tmp_path / "tokyo.db", listen=taken.address).start()
    with BlockingNode("tokyo", tmp_path / "tokyo.db") as tokyo:
        assert len(tokyo) == 0


# -- Ctrl-C


def interrupt_when(condition):
    """A thread that sends Ctrl-C to this process as soon as *condition* holds."""

    def watch():
        while not condition():
            pass
        os.kill(os.getpid(), signal.SIGINT)

    return in_thread(watch)


def test_ctrl_c_breaks_off_a_wait_and_nothing_else(paris):
    """The write that was waited for stays, nothing waits for it any longer, and the node goes on."""
    thread = interrupt_when(lambda: "k" in paris and paris._ask(lambda: bool(paris._node._waiting._acks), "x"))
    with pytest.raises(KeyboardInterrupt):
        paris.put("k", 1, acks=2, timeout=PATIENCE)
    thread.join()
    assert paris["k"] == 1
    paris["l"] = 2
    assert paris._ask(lambda: len(paris._node._waiting._acks) + len(paris._node.core.waiters), "x") == 0
    assert not paris._thread._waiting


class Strike:
    """
    Ctrl-C at the *number*-th step that this thread takes in the modules of the door; a step is a line, or a return.

    Not at a ``with``, nor at ``return change``: Python looks for signals after calls and at jumps, and so neither
    between a body and its end nor where a value is only handed back.
    """

    MODULES = (loop_thread.__file__, change_feed.__file__, threading.__file__, futures_base.__file__)

    def __init__(self, number):
        self.left = number

    def __enter__(self):
        sys.settrace(self)
        return self

    def __exit__(self, *_error):
        sys.settrace(None)

    def __call__(self, frame, event, _argument):
        if frame.f_code.co_filename not in self.MODULES:
            return None
        name, text = frame.f_code.co_name, linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if text.lstrip().startswith(("with ", "return change")):
            return self
        if event == "line" or (event == "return" and name not in ("__next__", "__exit__")):
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self


def test_ctrl_c_anywhere_in_a_feed_loses_no_change(paris):
    """Wherever it strikes: the feed goes on where it was, no lock is left locked, and the node does not hang."""
    feed = paris.changes(timeout=PATIENCE)
    for number in itertools.count(1):
        paris[f"key {number}"] = number
        before = feed.token
        try:
            with Strike(number) as strike:
                found = next(feed).value
        except KeyboardInterrupt:
            assert feed.token == before
            found = next(feed).value
        assert found == number
        if strike.left > 0:
            break
    assert number > 40, "it was everywhere"


def test_a_condition_of_the_standard_library_would_be_left_locked():
    """That is why there is none in the door: struck where it has taken its lock and not yet said so, it keeps it."""
    for number in itertools.count(1):
        condition, free = threading.Condition(), []
        try:
            with Strike(number) as strike, condition:
                pass
        except KeyboardInterrupt:
            in_thread(lambda: free.append(condition.acquire(blocking=False) and condition.release() is None)).join()  # noqa: B023
            if free == [False]:
                return
        else:
            assert strike.left <= 0, "there is no such place any more: it can be used again"


def test_ctrl_c_while_closing():
    """The node goes on closing, and closing again waits for it."""
    storage = StuckStorage()
    node = BlockingNode("paris", storage=storage).start()
    storage.go.set()
    node.put("k", 1, durability="batch")  # waits: the disk has to know that such writes come
    storage.go.clear()
    node.put("k", 2, durability="batch")
    thread = interrupt_when(lambda: not node._thread.is_open)
    with pytest.raises(KeyboardInterrupt):
        node.close()
    thread.join()
    storage.go.set()
    node.close()
    assert storage.commits > 1


def test_ctrl_c_while_starting():
    """What was begun is ended: no thread and no open store is left."""
    loading = threading.Event()

    class Slow(MemoryStorage):
        closed = False

        def load(self):
            loading.set()
            assert interrupted.wait(PATIENCE)
            return super().load()

        def close(self):
            self.closed = True
            super().close()

    storage, interrupted = Slow(), threading.Event()

    def interrupt():
        assert loading.wait(PATIENCE)
        os.kill(os.getpid(), signal.SIGINT)
        interrupted.set()

    thread = in_thread(interrupt)
    node = BlockingNode("paris", storage=storage)
    with pytest.raises(KeyboardInterrupt):
        node.start()
    thread.join()
    assert storage.closed
    assert not node._thread._thread.is_alive()
