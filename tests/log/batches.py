"""Batches for tests: whole histories as stores write them, and columns that fit together."""

from __future__ import annotations

from hypothesis import strategies as st

from mmrepl.log.batch import Batch, differences, run_lengths
from mmrepl.types import NodeId

NODES = (NodeId("paris", 1), NodeId("tokyo", 2), NodeId("lima", 2**63 - 1))
NAMES = ("", "carts", "日本")

keys = st.text(min_size=1, max_size=4)
payloads = st.none() | st.sampled_from([b"\x01", b"\xa1x", b"\xc0", b"\xc4\x02\xc1\xc1"])


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Batches that pass `check`: runs of several origins, voids, tables, contexts."""
    size = draw(st.integers(1, 3))
    origins = draw(st.permutations(NODES))[:size]
    tables = draw(st.permutations(NAMES))[: draw(st.integers(1, 3))]
    nexts = [draw(st.integers(1, 5)) for _ in origins]
    runs: list[int] = []
    dots: list[tuple[int, int]] = []  # of what is present
    for _ in range(draw(st.integers(0, 5))):
        ref = draw(st.integers(0, size - 1))
        count, void = draw(st.integers(1, 4)), draw(st.booleans())
        runs += (ref, nexts[ref], -count if void else count)
        if not void:
            dots += [(ref, counter) for counter in range(nexts[ref], nexts[ref] + count)]
        nexts[ref] += count
    refs = [draw(st.integers(0, len(tables) - 1)) for _ in dots]
    contexts: list[list[int]] = []
    for index, (ref, counter) in enumerate(dots):
        if draw(st.integers(0, 3)) == 0:
            entry = [index]
            for other in draw(st.permutations(range(size)))[: draw(st.integers(0, size))]:
                highest = counter - 1 if other == ref else 9
                if highest:
                    entry += (other, draw(st.integers(1, highest)))
            contexts.append(entry)
    stamps = [draw(st.integers(0, 2**63 - 1)) for _ in dots]
    return Batch(
        origins=[tuple(node) for node in origins],
        tables=list(tables),
        runs=runs,
        table_runs=run_lengths(refs),
        keys=[draw(keys) for _ in dots],
        stamps=differences(stamps),
        payloads=[draw(payloads) for _ in dots],
        contexts=contexts,
    )
