"""The demo: three nodes, a partition, writes on both sides, a heal. What it tells stands in `story`."""
