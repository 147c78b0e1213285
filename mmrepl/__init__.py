"""mmrepl: a multi-master replicated key-value store, with conflict resolution that you choose, see and can prove."""

__version__ = "0.1.0"
