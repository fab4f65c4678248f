"""Certificates that can't be used are told in a sentence, whoever would pass over them in silence."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from proxy.config.certificates import check_pair, load_pair, untrusting, wrong_files
from proxy.config.upstreams import Upstream
from tests.certificates import make_certificate


def test_a_pair_that_fits_serves(tmp_path: Path) -> None:
    made = make_certificate(tmp_path, "localhost").path
    check_pair(made, made)


@pytest.mark.parametrize("spoilt", ["missing", "junk", "another's key", "passphrase"])
def test_what_cannot_serve_is_told_with_what_it_should_be(tmp_path: Path, spoilt: str) -> None:
    made = make_certificate(tmp_path, "localhost").path
    key = tmp_path / "key.pem"
    if spoilt == "junk":
        key.write_text("no key")
    elif spoilt == "another's key":
        key = make_certificate(tmp_path, "127.0.0.1").path
    elif spoilt == "passphrase":
        locked = serialization.BestAvailableEncryption(b"sesame")
        plain = serialization.load_pem_private_key(made.read_bytes(), None)
        key.write_bytes(plain.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    with pytest.raises(ValueError, match=r"server\.tls_cert, server\.tls_key: .*can't be used: .*PEM"):
        check_pair(made, key)


def test_a_context_in_use_shows_the_pair_that_it_was_given_last(tmp_path: Path) -> None:
    first = make_certificate(tmp_path, "localhost").path.rename(tmp_path / "first.pem")
    second = make_certificate(tmp_path, "localhost").path
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_pair(server, first, first)
    load_pair(server, second, second)
    client = ssl.create_default_context(cafile=second)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    done = 0
    for end in ends * 3:
        try:
            end.do_handshake()
            done += 1
        except ssl.SSLWantReadError:
            pass
    assert done


def test_a_file_of_authorities_that_is_none_is_told(tmp_path: Path) -> None:
    """OpenSSL takes it for an empty one, and then no upstream can be reached."""
    made = make_certificate(tmp_path, "localhost").path
    junk = tmp_path / "junk.pem"
    junk.write_text("none")
    assert untrusting({}) is None
    assert untrusting({"SSL_CERT_FILE": ""}) is None
    assert untrusting({"SSL_CERT_FILE": str(made)}) is None
    assert "junk.pem: it holds no certificate" in str(untrusting({"SSL_CERT_FILE": str(junk)}))
    assert "gone.pem: it can't be read: No such file" in str(untrusting({"SSL_CERT_FILE": str(tmp_path / "gone.pem")}))


def test_files_of_an_upstream_that_no_tls_can_be_spoken_with_are_told_by_their_settings(tmp_path: Path) -> None:
    made, other, junk = make_certificate(tmp_path).path, make_certificate(tmp_path, "other").path, tmp_path / "junk"
    junk.write_text("none")

    def told(**settings: Path) -> dict[str, str]:
        return dict(wrong_files(Upstream.model_validate({"name": "a", "api_key": "k", **settings})))

    assert told() == told(ca_file=made, client_cert_file=made, client_key_file=made) == {}
    assert told(ca_file=junk)["ca_file"].startswith(f"{junk}: it holds no certificate (PEM)")
    for certificate, key in ((made, other), (junk, made), (made, junk)):
        sentence = told(client_cert_file=certificate, client_key_file=key)["client_cert_file"]
        assert sentence.startswith(f"{certificate} and {key} can't be used: ")
        assert "PEM" in sentence
