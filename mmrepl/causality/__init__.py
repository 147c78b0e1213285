"""Who has seen what: pure values, no policy."""

from mmrepl.causality.container import CausalContainer, LiveWrite
from mmrepl.causality.dot import Dot
from mmrepl.causality.stability import AckMatrix
from mmrepl.causality.version_vector import Ordering, VersionVector

__all__ = ["AckMatrix", "CausalContainer", "Dot", "LiveWrite", "Ordering", "VersionVector"]
