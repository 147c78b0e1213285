"""
Policies over concurrent values. They need nothing else of mmrepl: no store, no network, no event loop.

>>> from mmrepl.resolvers import KeepSiblings, Sibling
>>> here = Sibling.of("salut", timestamp=2, origin="paris")
>>> there = Sibling.of("hello", timestamp=1, origin="london")
>>> KeepSiblings().resolve([here, there]).value
['hello', 'salut']
"""

from mmrepl.resolvers.base import Resolution, Resolver
from mmrepl.resolvers.callback import Callback
from mmrepl.resolvers.keep_siblings import KeepSiblings
from mmrepl.resolvers.last_writer_wins import LastWriterWins
from mmrepl.resolvers.sibling import Sibling, canonical

__all__ = ["Callback", "KeepSiblings", "LastWriterWins", "Resolution", "Resolver", "Sibling", "canonical"]
