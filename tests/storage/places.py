"""Places for stores, and the accidents that befall them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from mmrepl.ports import Commit, Durability
from mmrepl.storage import MemoryDisk, MemoryStorage, SqliteStorage
from mmrepl.storage.identity import wall_ms


class MemoryPlace:
    """A disk in memory."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()

    def open(self) -> MemoryStorage:
        return MemoryStorage(self.disk)

    def crash(self, storage: MemoryStorage) -> None:
        self.disk.crash()


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
        """The process dies: the files stay as they are now, and the lock is gone."""
        files = self.picture()
        storage.close()
        self.put_back(files)

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
