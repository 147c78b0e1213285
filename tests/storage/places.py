"""Places for stores, and the accidents that befall them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from mmrepl.ports import Commit, Durability
from mmrepl.storage import MemoryDisk, MemoryStorage, SqliteStorage
from mmrepl.storage.identity import wall_ms
from mmrepl.storage.loaded import LoadedStore
from mmrepl.testing.storage_suite import Died


class MemoryPlace:
    """A disk in memory."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()

    def open(self) -> MemoryStorage:
        return MemoryStorage(self.disk)

    def crash(self, storage: MemoryStorage) -> None:
        self.disk.crash()

    def lose_power(self, storage: MemoryStorage) -> None:
        self.disk.lose_power(keep_count=1)

    def open_dying(self, touches: int) -> MemoryStorage:
        return DyingMemory(self.disk, touches)


class DyingMemory(MemoryStorage):
    """Dies before or after a commit."""

    def __init__(self, disk: MemoryDisk, touches: int) -> None:
        super().__init__(disk)
        self._touches = touches

    def commit(self, commit: Commit, durability: Durability) -> None:
        self._touch()
        super().commit(commit, durability)
        self._touch()

    def _touch(self) -> None:
        self._touches -= 1
        if self._touches < 0:
            raise Died


class SqlitePlace:
    """A file, on a machine whose boot and wall clock the test sets."""

    def __init__(self, folder: Path, name: str = "paris.db") -> None:
        self.path = folder / name
        self.machine = SimpleNamespace(boot="first boot", lag_ms=0)

    @property
    def wal(self) -> Path:
        return Path(f"{self.path}-wal")

    def open(self, path: Path | None = None) -> SqliteStorage:
        return SqliteStorage(
            path or self.path,
            wall_ms=lambda: wall_ms() - self.machine.lag_ms,
            boot_id=lambda: self.machine.boot,
        )

    def commit(self, *commits: Commit, level: Durability = Durability.SYNC) -> None:
        """One session, closed in order."""
        storage = self.open()
        storage.load()
        for commit in commits:
            storage.commit(commit, level)
        storage.close()

    def doubt(self, path: Path | None = None) -> str | None:
        """What the next one to open it is told; leaves the doubt as it is."""
        storage = self.open(path)
        try:
            return storage.load().doubt
        finally:
            storage.close()

    def crash(self, storage: SqliteStorage) -> None:
        """The process dies: the files stay as they are now (or were when it died), and the lock is gone."""
        files = getattr(storage, "last_picture", None) or self.picture()
        storage.close()
        self.put_back(files)

    def lose_power(self, storage: SqliteStorage) -> None:
        """The machine dies, though the disk is kind and keeps what was not synced."""
        self.crash(storage)
        self.machine.boot += " and another"

    def open_dying(self, touches: int) -> SqliteStorage:
        return DyingSqlite(self, touches)

    def picture(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in (self.path, self.wal) if path.exists()}

    def put_back(self, files: dict[Path, bytes]) -> None:
        """The files as they were, the database under its inode."""
        with self.path.open("r+b") as file:
            file.write(files[self.path])
            file.truncate()
        self.wal.unlink(missing_ok=True)
        if self.wal in files:
            self.wal.write_bytes(files[self.wal])

    def copy_to(self, target: Path) -> Path:
        shutil.copy2(self.path, target)
        if self.wal.exists():
            shutil.copy2(self.wal, f"{target}-wal")
        return target


def names(folder: Path) -> list[str]:
    """What is in *folder*, by name."""
    return sorted(path.name for path in folder.iterdir())


class FlakyConnection:
    """A connection whose statements a test can let fail; everything else is passed on."""

    def __init__(self, storage: SqliteStorage, before: Callable[[str], None], after: Callable[[str], None]) -> None:
        self._real = storage._connection
        self._before, self._after = before, after
        storage._connection = self

    def execute(self, sql: str, *parameters: object) -> object:
        self._before(sql)
        answer = self._real.execute(sql, *parameters)
        self._after(sql)
        return answer

    def executemany(self, sql: str, rows: object) -> object:
        self._before(sql)
        answer = self._real.executemany(sql, rows)
        self._after(sql)
        return answer

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


class DyingSqlite(SqliteStorage):
    """Dies before a statement, or after it; remembers what the files were like then."""

    def __init__(self, place: SqlitePlace, touches: int) -> None:
        machine = place.machine
        super().__init__(place.path, wall_ms=lambda: wall_ms() - machine.lag_ms, boot_id=lambda: machine.boot)
        self._place, self._touches = place, touches
        self.last_picture: dict[Path, bytes] | None = None

    def load(self) -> LoadedStore:
        loaded = super().load()
        FlakyConnection(self, self._touch, self._touch)
        return loaded

    def close(self) -> None:
        self._touches = 1 << 30  # the test tidies up: this is nothing that the dead process does
        super().close()

    def _touch(self, _sql: str) -> None:
        self._touches -= 1
        if self._touches < 0 and self.last_picture is None:
            self.last_picture = self._place.picture()
            raise Died
