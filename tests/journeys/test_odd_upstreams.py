"""A whole server before an upstream that is reached by an odd way: its own authority, our certificate, a proxy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from pathlib import Path

import httpx2
import pytest

from tests.certificates import Certificate, make_certificate, server_context
from tests.journeys.test_reload import counted
from tests.journeys.watching import TEXT, body, until
from tests.scripted import listening
from tests.stand import weighbridge
from tests.upstreams.forward_proxy import forwarding

pytestmark = pytest.mark.anyio

ANSWER = json.dumps(
    {
        "candidates": [{"content": {"role": "model", "parts": [{"text": "hi"}]}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2},
        "modelVersion": "gemini-3.8-flash",
    }
).encode()


def mutual(server: Certificate, authority: Certificate) -> ssl.SSLContext:
    """A server's context that asks clients for a certificate of this authority."""
    context = server_context(server)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.path)
    return context


async def test_calls_reach_it_and_a_renewed_certificate_is_shown_without_a_restart(tmp_path: Path) -> None:
    authority = make_certificate(tmp_path, "authority.test")
    context = mutual(make_certificate(tmp_path, "inner.test", issuer=authority), authority)
    client = make_certificate(tmp_path, "client.test", issuer=authority)
    shown: list[str] = []

    def converse(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
            came = b""
            while data := secure.recv(65536):
                came += data
                if b"generateContent" in came and came.endswith(b"}"):
                    shown.append(str((secure.getpeercert() or {})["serialNumber"]))
                    secure.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
                    secure.sendall(b"content-length: %d\r\n\r\n" % len(ANSWER) + ANSWER)
                    came = b""

    async with forwarding(hosts={"inner.test": "127.0.0.1"}) as proxy:
        (tmp_path / "password").write_text("geheim\n")
        way = {
            "ca_file": str(authority.path),
            "client_cert_file": str(client.path),
            "client_key_file": str(client.path),
            "proxy_url": proxy.url.replace("//", "//alice@"),
            "proxy_password_file": str(tmp_path / "password"),
        }
        with listening(converse) as url:
            inner = f"https://inner.test:{url.rpartition(':')[2]}"
            await asyncio.to_thread(calls, tmp_path, inner, way, authority, client, shown)
        assert all(b"proxy-authorization: Basic YWxpY2U6Z2VoZWlt" in head for head in proxy.heads)
        assert len(proxy.heads) == 2, "one way for each certificate"


def calls(
    folder: Path, inner: str, way: dict[str, object], authority: Certificate, client: Certificate, shown: list[str]
) -> None:
    """Two calls with the first certificate, one with the next, which is put in its place."""
    with weighbridge(folder, inner, {"upstreams": way}) as stand:
        key = stand.key()

        def call() -> None:
            answer = httpx2.post(
                f"{stand.base_url}{TEXT}generateContent", json=body("hi"), headers={"x-goog-api-key": key}
            )
            assert (answer.status_code, answer.content) == (200, ANSWER), answer.text

        call()
        call()
        renewed = make_certificate(folder, "client.test", issuer=authority)
        assert renewed.path == client.path
        until(lambda: counted(stand, "applied") >= 1, "the certificate is followed")
        call()
        assert [int(serial, 16) for serial in shown] == [
            client.certificate.serial_number,
            client.certificate.serial_number,
            renewed.certificate.serial_number,
        ]
        assert "geheim" not in stand.log() + stand.run("config", "show")
        assert [record.outcome for record in stand.records()] == ["ok"] * 3
