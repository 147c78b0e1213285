"""A client that knows several nodes: it finds who may write, goes elsewhere when one fails, keeps what it has seen."""
