"""
TLS between nodes from files: a certificate of one's own, and the authority that has issued all of them.

Both sides show a certificate, and both look at the other's. Whoever has none of that authority gets no further than
the handshake, and so is told nothing, not even names. The authority is the only one that is trusted: those of the
system count nothing here, so give an authority that issues for the nodes of this cluster and for nobody else.

The name that is verified is the host part of the address that was dialled: a certificate is issued for it, be it a name
or an IP address.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from mmrepl.errors import UsageError


def mutual_tls(
    certificate: str | Path, key: str | Path | None, authority: str | Path
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """
    Contexts for what is accepted and for what is dialled, as `TcpTransport` wants them: (server_ssl, client_ssl).

    *certificate* is a PEM file with the node's certificate and those between it and the authority; *key* one with its
    private key, without a passphrase; None: it stands in the same file. TLS 1.2 or later.

    Raises:
        UsageError: one of the files cannot be read, or does not hold what it should; the message names it.
    """
    try:
        accepting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority)
        dialling = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=authority)
    except (OSError, ValueError) as error:
        raise UsageError(f"no certificate of an authority in {authority}: {_why(error)}") from None
    accepting.verify_mode = ssl.CERT_REQUIRED
    try:
        for context in (accepting, dialling):
            context.load_cert_chain(certificate, key, password=_no_passphrase)
    except (OSError, ValueError) as error:
        where = f"{certificate}" if key is None else f"{certificate} and {key}"
        raise UsageError(f"no certificate with its key in {where}: {_why(error)}") from None
    return accepting, dialling


def _no_passphrase() -> str:
    """Else OpenSSL would ask the terminal, of which a service has none."""
    raise ValueError("the key has a passphrase: give one without, in a file that only the node may read")


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no PEM").replace("_", " ").lower()
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
