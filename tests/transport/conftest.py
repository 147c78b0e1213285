"""What several tests of the transports share."""

from __future__ import annotations

import ssl

import pytest


@pytest.fixture(scope="session")
def tls():
    """A certificate authority of our own, and contexts for both sides."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client
