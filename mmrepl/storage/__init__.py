"""Where a node remembers: in memory, or in one SQLite file."""

from mmrepl.storage.memory import MemoryDisk, MemoryStorage
from mmrepl.storage.sqlite import SqliteStorage
from mmrepl.storage.verify import Damage, Report, verify

__all__ = ["Damage", "MemoryDisk", "MemoryStorage", "Report", "SqliteStorage", "verify"]
