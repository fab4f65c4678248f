"""Certificates that can't be used are told in a sentence, whoever would pass over them in silence."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from proxy.config.certificates import expires_s, server_context, untrusting, wrong_files
from proxy.config.upstreams import Upstream
from tests.certificates import make_certificate


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
        server_context(made, key)


def shaken(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """The client's end, once they have shaken hands. Raises ssl.SSLError where they don't agree."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    far = server.wrap_bio(to_server, to_client, server_side=True)
    for end in (near, far, near, far, near):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return near


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_a_door_speaks_tls_1_2_and_1_3_with_forward_secrecy_and_http_1_1_inside_it(tmp_path: Path) -> None:
    """Whatever a client offers besides; with any name that it asks for."""
    made = make_certificate(tmp_path, "localhost").path
    server = server_context(made, made)
    assert {cipher["name"][:9] for cipher in server.get_ciphers()} == {
        "ECDHE-ECD",
        "ECDHE-RSA",
        "TLS_AES_1",
        "TLS_AES_2",
        "TLS_CHACH",
    }
    for newest, version in ((ssl.TLSVersion.TLSv1_3, "TLSv1.3"), (ssl.TLSVersion.TLSv1_2, "TLSv1.2")):
        client = ssl.create_default_context(cafile=made)
        client.maximum_version = newest
        client.set_alpn_protocols(["h2", "http/1.1"])
        end = shaken(server, client)
        assert (end.version(), end.selected_alpn_protocol()) == (version, "http/1.1")
    for offered in ("@SECLEVEL=0:ALL", "@SECLEVEL=0:AES128-SHA:ECDHE-ECDSA-AES128-SHA"):
        client = ssl.create_default_context(cafile=made)
        client.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        client.maximum_version = ssl.TLSVersion.TLSv1_1 if "ALL" in offered else ssl.TLSVersion.TLSv1_2
        client.set_ciphers(offered)
        with pytest.raises(ssl.SSLError):
            shaken(server, client)


def test_until_when_a_certificate_is_good(tmp_path: Path) -> None:
    made = make_certificate(tmp_path, valid_until=3)
    assert expires_s(made.path) == made.certificate.not_valid_after_utc.timestamp()


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
