"""The client port: any Redis client is a client of a node."""

from mmrepl.runtime.resp.options import ClientOptions
from mmrepl.runtime.resp.server import ClientPort

__all__ = ["ClientOptions", "ClientPort"]
