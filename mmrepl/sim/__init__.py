"""
A whole cluster in one process, on virtual time, reproducible from one seed.
"""
