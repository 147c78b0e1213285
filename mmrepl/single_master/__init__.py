"""The single-master core: one replicated log, three knobs."""
