"""The gateway door over TLS: certificates are renewed under load, and handshakes that hang hold up nobody."""

from __future__ import annotations

import http.client
import json
import os
import resource
import signal
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from proxy.gateway.acceptor import HANDSHAKES
from tests.certificates import Certificate, make_certificate
from tests.journeys.test_reload import counted, logged, tell, told
from tests.journeys.watching import DEADLINE_S, TEXT, body, connect, until
from tests.proof import sized
from tests.stand import Weighbridge, weighbridge

RENEWALS = 6
UNTOLD = 1
"""The renewal that it must see by itself."""
BAD = 3
"""The one that can't be used."""
STUCK = sized(1000, 2000)


@pytest.fixture
def authority(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path, "authority")


class Secured:
    """A Weighbridge that shows a certificate of `authority`, and a client of it."""

    def __init__(self, stand: Weighbridge, authority: Certificate) -> None:
        self.stand = stand
        self.trust = ssl.create_default_context(cafile=authority.path)
        self.headers = {"x-goog-api-key": stand.key()}

    def connect(self) -> http.client.HTTPSConnection:
        """A connection of its own, which is kept."""
        where = urlsplit(self.stand.base_url)
        connection = http.client.HTTPSConnection("127.0.0.1", where.port, timeout=DEADLINE_S, context=self.trust)
        connection.connect()
        return connection

    def call(self, connection: http.client.HTTPSConnection, verb: str = "generateContent") -> str:
        """One call; what it was answered, whole."""
        asked = json.dumps(body("[[delay=0.02]] [[chunks=4]] [[chunk-delay=0.02]]"))
        connection.request("POST", TEXT + verb, asked, {**self.headers, "content-type": "application/json"})
        answer = connection.getresponse()
        text = answer.read().decode()
        assert (answer.status, "STOP" in text) == (200, True), text
        return text


def shown(connection: http.client.HTTPSConnection) -> int:
    """The serial number of the certificate that its server showed."""
    assert isinstance(connection.sock, ssl.SSLSocket)
    said: Any = connection.sock.getpeercert()
    return int(said["serialNumber"], 16)


@contextmanager
def secured(folder: Path, upstream: str, authority: Certificate) -> Iterator[Secured]:
    pair = make_certificate(folder, "127.0.0.1", issuer=authority).path
    with weighbridge(folder, upstream, {"server": {"tls_cert": str(pair), "tls_key": str(pair)}}) as stand:
        yield Secured(stand, authority)


def renew(folder: Path, authority: Certificate) -> Certificate:
    """Another certificate, put in the place of the one in use in one step."""
    fresh = folder / "fresh"
    fresh.mkdir(exist_ok=True)
    made = make_certificate(fresh, "127.0.0.1", issuer=authority)
    made.path.replace(folder / "127.0.0.1.pem")
    return made


def test_a_certificate_is_renewed_under_load_without_one_dropped_connection_or_call(
    tmp_path: Path, upstream: str, authority: Certificate
) -> None:
    """Connections that are there go on under the old one, new ones see the new one; a bad pair changes nothing."""
    over, calls = threading.Event(), Counter[str]()
    with secured(tmp_path, upstream, authority) as door, ThreadPoolExecutor(4) as threads:

        def keeps_its_connection(verb: str) -> int:
            connection = door.connect()
            first = shown(connection)
            while not over.is_set():
                door.call(connection, verb)
                assert shown(connection) == first, "it has connected again"
                calls["kept"] += 1
            connection.close()
            return first

        def connects_each_time(verb: str) -> None:
            while not over.is_set():
                connection = door.connect()
                door.call(connection, verb)
                connection.close()
                calls["new"] += 1

        kept = [threads.submit(keeps_its_connection, verb) for verb in ("generateContent", "streamGenerateContent")]
        new = [threads.submit(connects_each_time, verb) for verb in ("generateContent", "streamGenerateContent")]
        oldest = door.connect()
        first = shown(oldest)
        try:
            for number in range(RENEWALS):
                seen = calls["kept"], calls["new"]
                until(lambda was=seen: calls["kept"] > was[0] + 1 and calls["new"] > was[1] + 1, "calls go on")  # type: ignore[misc]
                if number == BAD:
                    was = counted(door.stand, "rejected")
                    (tmp_path / "127.0.0.1.pem").write_text("no certificate")
                    tell(door.stand, signal.SIGHUP)
                    until(lambda before=was: counted(door.stand, "rejected") > before, "it is rejected")  # type: ignore[misc]
                    assert "can't be used" in told(door.stand, "configuration_rejected")[-1]["why"]
                else:
                    was = counted(door.stand, "applied")
                    latest = renew(tmp_path, authority).certificate.serial_number
                    if number != UNTOLD:
                        tell(door.stand, signal.SIGHUP)
                    until(lambda before=was: counted(door.stand, "applied") > before, "it is taken")  # type: ignore[misc]
                connection = door.connect()
                assert shown(connection) == latest
                connection.close()
        finally:
            over.set()
        assert {done.result() for done in kept} == {first}
        for done in new:
            done.result()
        assert (door.call(oldest) != "", shown(oldest)) == (True, first)
        oldest.close()
        assert {record.outcome for record in door.stand.records()} == {"ok"}
        assert len(door.stand.records()) == calls.total() + 1


def test_thousands_of_handshakes_that_never_end_hold_up_nobody(
    tmp_path: Path, upstream: str, authority: Certificate
) -> None:
    """Half say nothing, half begin and leave it at that. Who has a connection is served, and who connects is, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with secured(tmp_path, upstream, authority) as door, ExitStack() as stack:
            assert door.stand.process is not None
            kept = door.connect()
            door.call(kept)
            resident = _resident(door.stand.process.pid)
            hello = _client_hello()
            for number in range(STUCK):
                stuck = stack.enter_context(connect(door.stand.base_url))
                if number % 2:
                    stuck.sendall(hello)
            door.call(kept)
            fresh = door.connect()
            door.call(fresh)
            assert _connections(door.stand.process.pid) < HANDSHAKES + 50
            assert _resident(door.stand.process.pid) - resident < 128 << 20
            for connection in (kept, fresh):
                door.call(connection)
                connection.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_without_file_descriptors_calls_go_on_and_the_door_lives(
    tmp_path: Path, upstream: str, authority: Certificate
) -> None:
    with secured(tmp_path, upstream, authority) as door, ThreadPoolExecutor(8) as threads:
        assert door.stand.process is not None
        pid = door.stand.process.pid
        kept = door.connect()
        door.call(kept)
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (5, hard))

        def come() -> None:
            connection = door.connect()
            door.call(connection)
            connection.close()

        coming = [threads.submit(come) for _ in range(8)]
        until(lambda: logged(door.stand, "connections_wait"), "there is none left")
        door.call(kept)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        for each in coming:
            each.result()
        assert len(door.stand.records()) == 10
        kept.close()


def _client_hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="x.example")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def _resident(pid: int) -> int:
    """Bytes of memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def _connections(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208
