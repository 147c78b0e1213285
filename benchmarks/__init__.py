"""
How fast and how small mmrepl is, beside its peers, in one run: ``python -m benchmarks``.

docs/how-to/read-the-benchmarks.md tells how to read the table.
"""
