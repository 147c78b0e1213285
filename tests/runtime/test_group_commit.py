"""One thread commits for all that wait."""

from __future__ import annotations

import threading

import pytest

from mmrepl.errors import StoreFailed
from mmrepl.runtime import group_commit
from mmrepl.runtime.group_commit import GroupCommit
from mmrepl.runtime.replica import Replica
from mmrepl.storage.memory import MemoryDisk, MemoryStorage

SECONDS_MAX = 30  # no test waits so long; one that would hang ends


class Disk:
    """A log whose end is *written*; a commit takes as long as the test wants."""

    def __init__(self) -> None:
        self.written = self.durable = 0
        self.commits: list[int] = []  # how far each commit reached
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.error: BaseException | None = None
        self.group = GroupCommit(self.commit, lambda: self.durable)

    def commit(self, position: int) -> None:
        if self.durable >= position:
            return
        end = self.written
        self.begun.release()
        assert self.may_end.acquire(timeout=SECONDS_MAX)
        if self.error is not None:
            raise self.error
        self.commits.append(end)
        self.durable = max(self.durable, end)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def arrivals(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """One for each thread that has begun to wait."""
    arrived = threading.Semaphore(0)

    class Counted(group_commit._Waiter):
        __slots__ = ()

        def __init__(self, position: int) -> None:
            super().__init__(position)
            arrived.release()

    monkeypatch.setattr(group_commit, "_Waiter", Counted)
    return arrived


class Writer(threading.Thread):
    """Writes one operation and waits until it is durable."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(daemon=True)
        disk.written += 1
        self.position = disk.written
        self._disk = disk
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._disk.group.commit(self.position)
            assert self._disk.durable >= self.position
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def ended(self) -> bool:
        self.join(SECONDS_MAX)
        return not self.is_alive()


def begin(disk: Disk, arrivals: threading.Semaphore, count: int) -> list[Writer]:
    """One that commits, and *count* that came meanwhile and wait."""
    writers = [Writer(disk)]
    writers[0].start()
    assert disk.begun.acquire(timeout=SECONDS_MAX)
    for _ in range(count):
        writers.append(Writer(disk))
        writers[-1].start()
        assert arrivals.acquire(timeout=SECONDS_MAX)
    with disk.group._guard:  # the last one is among those who wait, too
        assert len(disk.group._waiting) == count
    return writers


def idle(group: GroupCommit) -> bool:
    return not group._is_led and not group._waiting


def test_what_comes_during_a_commit_shares_the_next(disk: Disk, arrivals: threading.Semaphore):
    """Ten writers make two commits, not ten, and each returns when its own write is durable."""
    writers = begin(disk, arrivals, 9)
    disk.may_end.release()
    assert disk.begun.acquire(timeout=SECONDS_MAX)
    assert writers[0].ended()
    assert all(writer.is_alive() for writer in writers[1:])
    disk.may_end.release()
    assert all(writer.ended() and writer.error is None for writer in writers)
    assert disk.commits == [1, 10]
    assert idle(disk.group)


def test_nobody_commits_again_what_another_has(disk: Disk, arrivals: threading.Semaphore):
    """A commit from elsewhere (a flush, a delta) took all of it along: who waited returns, and hands on the lead."""
    writers = begin(disk, arrivals, 3)
    disk.durable = 10
    disk.may_end.release()
    assert all(writer.ended() and writer.error is None for writer in writers)
    assert disk.commits == [1]
    assert idle(disk.group)


def test_who_was_told_to_lead_and_need_not_hands_on_the_lead(arrivals: threading.Semaphore):
    """Between being told and being awake, a commit from elsewhere made its write durable; not that of the next one."""
    disk = Disk()
    answers = iter([1])  # while the first leaves
    disk.group = GroupCommit(disk.commit, lambda: next(answers, disk.durable))
    disk.durable = 2
    writers = [Writer(disk) for _ in range(3)]
    disk.group._is_led = True
    for writer in writers[1:]:
        writer.start()
        assert arrivals.acquire(timeout=SECONDS_MAX)
    with disk.group._guard:
        assert [waiter.position for waiter in disk.group._waiting] == [2, 3]
    disk.group._leave(None)
    assert disk.begun.acquire(timeout=SECONDS_MAX)
    disk.may_end.release()
    assert all(writer.ended() and writer.error is None for writer in writers[1:])
    assert disk.commits == [3]
    assert idle(disk.group)


def test_everybody_is_told_when_the_disk_fails(disk: Disk, arrivals: threading.Semaphore):
    """The error of one commit is not taken for all: each tries, and hears from the disk itself."""
    writers = begin(disk, arrivals, 4)
    disk.error = StoreFailed("the disk failed")
    for _ in writers:
        disk.may_end.release()
    assert all(writer.ended() for writer in writers)
    assert all(isinstance(writer.error, StoreFailed) for writer in writers)
    assert idle(disk.group)


def test_an_interrupted_leader_leaves_another_in_its_place(disk: Disk, arrivals: threading.Semaphore):
    """Ctrl-C in the thread that commits costs the others nothing."""
    writers = begin(disk, arrivals, 3)
    disk.error = KeyboardInterrupt()
    disk.may_end.release()
    assert disk.begun.acquire(timeout=SECONDS_MAX)
    assert isinstance(writers[0].error, KeyboardInterrupt)
    disk.error = None
    disk.may_end.release()
    assert all(writer.ended() for writer in writers)
    assert all(writer.error is None for writer in writers[1:])
    assert disk.commits == [4]
    assert idle(disk.group)


def test_who_has_waited_too_long_commits_by_itself(
    disk: Disk, arrivals: threading.Semaphore, monkeypatch: pytest.MonkeyPatch
):
    """A leader that never comes back is not waited for."""
    monkeypatch.setattr(group_commit, "PATIENCE_SECONDS", 0.001)
    disk.group._is_led = True  # by nobody: as if Ctrl-C had struck between two lines
    lonely = Writer(disk)
    lonely.start()
    assert disk.begun.acquire(timeout=SECONDS_MAX)
    disk.may_end.release()
    assert lonely.ended()
    assert lonely.error is None
    assert disk.commits == [1]


def puts_of_threads(paris: Replica, threads_count: int, each: int) -> None:
    def write(name: int) -> None:
        for number in range(each):
            paris[f"{name}/{number}"] = number

    threads = [threading.Thread(target=write, args=(name,)) for name in range(threads_count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS_MAX)
        assert not thread.is_alive()


def test_writers_of_one_replica_share_its_commits():
    """Every put of many threads is durable when it returns, and nothing is lost or doubled."""
    paris = Replica("paris", storage=MemoryStorage(MemoryDisk()))
    puts_of_threads(paris, 8, 20)
    assert paris._core.durable == paris._store.log.end
    assert sum(paris.version.values()) == 160
    assert idle(paris._group)
    paris.check()
    paris.close()
