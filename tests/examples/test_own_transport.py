"""The transport that an example shows keeps all that a transport must."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
if str(EXAMPLES) not in sys.path:
    sys.path.insert(0, str(EXAMPLES))

from own_transport import UnixTransport  # noqa: E402

from mmrepl.testing.transport_suite import TransportSuite  # noqa: E402


class UnixKit:
    """Transports that meet in one folder."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="mmrepl-")
        self.address = self._folder.name + "/"

    def transport(self):
        return UnixTransport()

    async def close(self):
        self._folder.cleanup()


class TestUnixTransport(TransportSuite):
    def kit(self):
        return UnixKit()
