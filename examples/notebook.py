"""
A notebook in a plain file: run it cell by cell in an editor that knows ``# %%``, or as a program.

In a notebook a diagram shows itself as a picture; here it is written into an SVG file as well, in the current folder
or where the first argument says.
"""

# run: {scratch}

# %% [markdown]
# # Two shoppers, one cart, no network between them
# A cluster of three on virtual time. Lima's line is slow, so that one sees what is under way.

# %%
import sys
from pathlib import Path

from mmrepl.resolvers import Callback, KeepSiblings
from mmrepl.sim import Cluster, Weather


def union(carts):
    """All that is in any cart."""
    return sorted({item for cart in carts for item in cart})


cluster = Cluster(
    ["paris", "tokyo", "lima"],
    seed=11,
    tables={"carts": Callback(union), "drafts": KeepSiblings()},
    weather=Weather("constant", 12),
)

# %% [markdown]
# ## Both sides of a partition write
# Each goes on by itself; nobody is refused.

# %%
cluster.partition({"lima"}, {"paris", "tokyo"})
cluster["paris"].table("carts")["ada"] = ["tea"]
cluster.run(40)
cluster["lima"].table("carts")["ada"] = ["jam", "cake"]
cluster.run(25)
cluster["tokyo"]["greeting"] = "konnichiwa"
cluster["lima"]["greeting"] = "buenos días"
cluster.run(60)
for node in cluster:
    print(f"{node.name:6} {node.table('carts').get('ada')!s:18} {node.get('greeting')}")

# %% [markdown]
# ## It heals
# What waited arrives in a burst. Siblings meet, and each table's resolver makes one value of them: on every node the
# same, since all of them hand it the same siblings.

# %%
cluster.heal()
took_ms = cluster.run_until_converged()
print(f"\nequal again after {took_ms} ms:")
for node in cluster:
    print(f"{node.name:6} {node.table('carts').get('ada')!s:24} {node.get('greeting')}")

# %% [markdown]
# ## One node goes, and returns
# It brings what it had on its disk, and is told the rest.

# %%
cluster.crash("paris")
cluster["tokyo"].table("carts")["ada"] = ["jam", "cake"]
cluster.run(100)
cluster.restart("paris")
cluster.run_until_converged()

# %%
diagram = cluster.diagram()
target = Path(sys.argv[1] if len(sys.argv) > 1 else ".") / "partition.svg"
target.write_text(diagram.svg(), encoding="utf-8")
print(f"\nthe picture is in {target.name}; as text:\n\n{diagram}")

# %%
diagram  # noqa: B018 - a notebook shows the picture
