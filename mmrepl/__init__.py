"""mmrepl: a multi-master replicated key-value store, with conflict resolution that you choose, see and can prove."""

from mmrepl.runtime.replica import Replica

__version__ = "0.1.0"
