"""TLS from files: what it takes, whom it lets in, and what is said of files that will not do."""

from __future__ import annotations

import ssl

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from mmrepl.errors import UsageError
from mmrepl.transport.tls import mutual_tls


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """An authority, and a certificate with its key, in one file and in two."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    issued.private_key_pem.write_to_path(folder / "node.key")
    for blob in issued.cert_chain_pems:
        blob.write_to_path(folder / "node.pem", append=True)
    trustme.CA().issue_cert("127.0.0.1").private_key_pem.write_to_path(folder / "other.key")
    (folder / "garbage.pem").write_text("no certificate")
    return folder


@pytest.mark.parametrize("names", [("both.pem", None), ("node.pem", "node.key")])
def test_both_sides_ask_for_a_certificate_and_trust_one_authority(files, names):
    """Not those of the system, and nobody without."""
    certificate, key = names
    for context in mutual_tls(files / certificate, None if key is None else files / key, files / "authority.pem"):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert len(context.get_ca_certs()) == 1
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.check_hostname, "who is dialled has to be who it says"


@pytest.mark.parametrize(
    ("certificate", "key", "authority", "why"),
    [
        ("node.pem", "node.key", "none.pem", "authority in .*none.pem: No such file"),
        ("node.pem", "node.key", "garbage.pem", "authority in .*garbage.pem"),
        ("none.pem", None, "authority.pem", "in .*none.pem: No such file"),
        ("garbage.pem", None, "authority.pem", "in .*garbage.pem: "),
        ("node.pem", None, "authority.pem", "in .*node.pem: "),
        ("node.pem", "other.key", "authority.pem", "other.key: key values mismatch"),
    ],
)
def test_files_that_will_not_do_are_named(files, certificate, key, authority, why):
    """Which one, and what is wrong with it."""
    with pytest.raises(UsageError, match=why):
        mutual_tls(files / certificate, None if key is None else files / key, files / authority)


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked(files):
    """A service has no terminal."""
    locked = files / "locked.key"
    key = serialization.load_pem_private_key((files / "node.key").read_bytes(), None)
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"hush"),
        )
    )
    with pytest.raises(UsageError, match="has a passphrase"):
        mutual_tls(files / "node.pem", locked, files / "authority.pem")
