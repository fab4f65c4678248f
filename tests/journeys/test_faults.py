"""Faults on our side and stubborn peers: nothing is completed that isn't on the bill, nothing goes up that can't be."""

from __future__ import annotations

import os
import resource
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from itertools import count
from pathlib import Path

import anyio
import httpx2
import pytest
from pydantic import SecretStr

from proxy.app import App
from proxy.billing import reports
from proxy.billing.ledger_reading import ledger_files
from proxy.config.schema import Settings, Storage
from proxy.config.upstreams import Upstream
from proxy.store.database import open_database
from proxy.tenants import keys
from tests.gateway.wire import door
from tests.journeys.watching import DEADLINE_S, TEXT, body, connect, locked, open_leases, until
from tests.scripted import Scripted, says, scripted
from tests.stand import Weighbridge, weighbridge

USAGE = b'"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":5,"totalTokenCount":8}'
PARTS = [b'{"candidates":[{"content":{"parts":[{"text":"one "}]}}]', b'"modelVersion":"gemini-3.8-flash"', USAGE + b"}"]
ELEMENTS = [b"{%b}" % USAGE] * 3
BODIES = {
    "generateContent": [b",".join(PARTS[:2]), b"," + PARTS[2]],
    "streamGenerateContent?alt=sse": [b"data: %b\r\n\r\n" % element for element in ELEMENTS],
    "streamGenerateContent": [b"[" + ELEMENTS[0], b",\r\n" + ELEMENTS[1], b",\r\n" + ELEMENTS[2] + b"\n]"],
}
"""What an upstream answers, by verb, in the pieces that it sends."""


class Held:
    """Answers a call as soon as it may `go`."""

    def __init__(self, verb: str, *, length: bool) -> None:
        self.pieces, self.length = BODIES[verb], length
        self.asked, self.go = threading.Event(), threading.Event()

    def __call__(self, connection: socket.socket) -> None:
        self.asked.set()
        self.go.wait()
        framing = b"Content-Length: %d" % len(b"".join(self.pieces)) if self.length else b"Transfer-Encoding: chunked"
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%b\r\n\r\n" % framing)
        for piece in self.pieces:
            connection.sendall(piece if self.length else b"%x\r\n%b\r\n" % (len(piece), piece))
        if not self.length:
            connection.sendall(b"0\r\n\r\n")


def ask(stand: Weighbridge, verb: str, version: str = "1.1") -> socket.socket:
    """Sends a request over a connection of its own."""
    connection = connect(stand.base_url)
    head = f"POST {TEXT}{verb} HTTP/{version}\r\nHost: x\r\nConnection: close\r\nX-Goog-Api-Key: {stand.key()}\r\n"
    connection.sendall(head.encode() + b"Content-Length: 2\r\n\r\n{}")
    return connection


def read(connection: socket.socket) -> bytes:
    """All that comes, until nothing comes for a while or the connection ends."""
    connection.settimeout(0.4)
    came = b""
    with suppress(TimeoutError):
        while piece := connection.recv(65536):
            came += piece
    return came


def whole(answer: bytes, upstream: Held) -> bool:
    """Whether a client takes it for complete."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head:
        return rest.endswith(b"0\r\n\r\n")
    return bool(head) and len(rest) == len(b"".join(upstream.pieces))


@pytest.fixture(scope="module")
def script() -> Iterator[Scripted]:
    with scripted() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def stand(script: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weighbridge]:
    with weighbridge(tmp_path_factory.mktemp("faults"), script.base_url) as running:
        yield running


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("verb", BODIES)
def test_no_response_is_complete_before_its_record_is_durable(
    stand: Weighbridge, script: Scripted, verb: str, length: bool
) -> None:
    script.answer = upstream = Held(verb, length=length)
    earlier = stand.records()
    with ask(stand, verb) as connection:
        assert upstream.asked.wait(DEADLINE_S)
        with locked(stand.data_dir / "ledger/0.db"):
            upstream.go.set()
            before = b""
            while "stream" in verb and not all(event in before for event in upstream.pieces):
                before += connection.recv(65536)  # no event of a stream waits
            before += read(connection)
            assert not whole(before, upstream)
            assert stand.records() == earlier
        answer = before + read(connection)
    assert whole(answer, upstream)
    assert [record.total_token_count for record in stand.records()[len(earlier) :]] == [8]


def test_a_process_that_dies_before_the_record_is_durable_has_completed_nothing(tmp_path: Path) -> None:
    """Its start writes down by estimate what went up."""
    upstream = Held("streamGenerateContent?alt=sse", length=True)
    with scripted(upstream) as script, weighbridge(tmp_path, script.base_url) as stand:
        with ask(stand, "streamGenerateContent?alt=sse") as connection:
            assert upstream.asked.wait(DEADLINE_S)
            with locked(stand.data_dir / "ledger/0.db"):
                upstream.go.set()
                came = connection.recv(65536)
                stand.stop(signal.SIGKILL)
                with suppress(ConnectionResetError):
                    came += read(connection)
            assert not whole(came, upstream)
        stand.start()
        (record,) = stand.records()
        assert (record.outcome, record.estimated) == ("unsettled", True)
        assert record.cost_usd
        assert open_leases(stand.data_dir) == 0


class Load:
    """Calls without end, several at once: what was answered, by request id."""

    def __init__(self, stand: Weighbridge) -> None:
        self.answered: dict[str, int] = {}
        self.refused: list[httpx2.Response] = []
        self._enough = threading.Event()
        self._url, self._headers = f"{stand.base_url}{TEXT}generateContent", {"x-goog-api-key": stand.key()}
        self._threads = ThreadPoolExecutor(4)
        self._callers = [self._threads.submit(self._call) for _ in range(4)]

    def _call(self) -> None:
        with httpx2.Client(headers=self._headers, timeout=60) as client, suppress(httpx2.TransportError):
            while not self._enough.is_set():
                answer = client.post(self._url, json=body("hi"))
                self.answered[answer.headers["x-weighbridge-request-id"]] = answer.status_code
                if answer.status_code != 200:
                    self.refused.append(answer)
                    self._enough.wait(0.01)

    def whole(self) -> set[str]:
        return {request_id for request_id, status in list(self.answered.items()) if status == 200}

    def more(self, calls: int) -> None:
        """Waits until so many more calls were answered in full, or the load ended."""
        enough = len(self.whole()) + calls
        until(lambda: len(self.whole()) >= enough or all(caller.done() for caller in self._callers), f"{calls} calls")

    def end(self) -> None:
        self._enough.set()
        for caller in self._callers:
            caller.result()


def answers_all_but(first: int, go: threading.Event) -> Callable[[socket.socket], None]:
    """An upstream that answers at once, but for the first calls: these get half of a stream, and the rest at `go`."""
    number = count()
    single, stream = b",".join(PARTS), b"".join(BODIES["streamGenerateContent?alt=sse"])

    def answer(connection: socket.socket) -> None:
        held = next(number) < first
        whole = stream if held else single
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(whole), whole[:100]))
        if held:
            go.wait()
        connection.sendall(whole[100:])

    return answer


def test_where_the_ledger_fails_all_calls_are_broken_off_and_the_next_start_recovers(tmp_path: Path) -> None:
    """A file that may not grow any more fails as a dying disk does: with an error that says nothing of space."""
    go = threading.Event()
    with scripted(answers_all_but(2, go)) as script, weighbridge(tmp_path, script.base_url) as stand:
        assert stand.process is not None
        old = "streamGenerateContent?alt=sse", "1.0"
        with ask(stand, "streamGenerateContent") as in_flight, ask(stand, *old) as in_flight_of_http_1_0:
            came = in_flight.recv(65536)
            assert in_flight_of_http_1_0.recv(65536)
            load = Load(stand)
            load.more(50)
            size = (stand.data_dir / "ledger/0.db-wal").stat().st_size
            resource.prlimit(stand.process.pid, resource.RLIMIT_FSIZE, (size, size))
            with stand.process as process:
                assert process.wait(60) == 74
            load.end()
            came += read(in_flight)
            assert not came.endswith(b"0\r\n\r\n")
            with pytest.raises(ConnectionResetError):
                in_flight_of_http_1_0.recv(65536)
        assert not load.refused
        assert "ledger_broken" in stand.log()
        assert "look at the disk before it is started again" in stand.log()
        stand.start()
        ids = [record.request_id for record in stand.records()]
        assert len(ids) == len(set(ids))
        assert load.whole() <= set(ids)
        assert len(ids) >= len(script.received), "a call reached the upstream and left no record"
        assert [record.outcome for record in stand.records()].count("unsettled") >= 2
        assert open_leases(stand.data_dir) == 0


async def test_a_client_that_does_not_read_its_response_is_billed_what_google_reports(tmp_path: Path) -> None:
    """It waits 0.1 s here, where a server waits two minutes."""
    body = b'{"candidates":[],"padding":"%b",%b}' % (b"x" * (32 << 20), USAGE)
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with scripted(says(whole)) as script:
        upstream = Upstream(name="slow", base_url=script.base_url, api_key=SecretStr("k"))
        settings = Settings(storage=Storage(data_dir=tmp_path / "data"), upstreams=(upstream,))
        app = await App.open(settings, ledger_broke=pytest.fail)
        key = Weighbridge(tmp_path, script.base_url).key()
        head = f"POST {TEXT}generateContent HTTP/1.1\r\nHost: x\r\nX-Goog-Api-Key: {key}\r\nContent-Length: 2\r\n\r\n"
        async with door(app.gateway, stall_s=0.1, send_buffer=16 * 1024) as gateway:
            connection = await gateway.connect(receive_buffer=16 * 1024)
            connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
            connection.writer.write(head.encode() + b"{}")
            with anyio.fail_after(20):
                while not (records := list(reports.export(ledger_files(settings.storage.data_dir)))):
                    await anyio.sleep(0.01)
        await app.close()
    (record,) = records
    assert (record.outcome, record.estimated, record.total_token_count) == ("client_gone", False, 8)
    assert record.response_bytes == len(body)


@pytest.mark.parametrize(("seen", "tokens"), [(b"", None), (b"".join(BODIES["streamGenerateContent?alt=sse"]), 8)])
def test_a_client_that_left_is_outlived_for_so_long_and_no_longer(tmp_path: Path, seen: bytes, tokens: int) -> None:
    """Then the call is billed by the last usage that was seen, else by its estimate."""
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + seen if seen else b""
    settings = {"gateway": {"drain_after_disconnect_s": 0.2}}
    with scripted(says(half)) as script, weighbridge(tmp_path, script.base_url, settings) as stand:
        with ask(stand, "streamGenerateContent?alt=sse") as connection:
            until(lambda: script.received, "the upstream has the call")
            if seen:
                assert connection.recv(65536)
        (record,) = until(stand.records, "its record")
        assert (record.outcome, record.estimated, record.total_token_count) == ("truncated", True, tokens)
        assert record.cost_usd
        assert stand.stop() == 0
        assert open_leases(stand.data_dir) == 0


def test_a_request_that_the_upstream_did_not_take_whole_costs_nothing(tmp_path: Path) -> None:
    def refuse(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as threads:
        refusing = threads.submit(refuse, listener)
        with weighbridge(tmp_path, f"http://127.0.0.1:{listener.getsockname()[1]}") as stand:
            headers = {"x-goog-api-key": stand.key()}
            answer = httpx2.post(f"{stand.base_url}{TEXT}generateContent", json=body("x" * (32 << 20)), headers=headers)
            refusing.result()
            assert (answer.status_code, answer.headers["x-weighbridge-refused"]) == (502, "UPSTREAM_UNREACHABLE")
            (record,) = stand.records()
            assert (record.outcome, record.cost_usd, record.http_status) == ("upstream_error", 0, None)


@pytest.mark.parametrize("trouble", ["nobody reads it", "its reader has gone", "its disk is full"])
def test_what_happens_to_the_log_is_no_business_of_the_callers(tmp_path: Path, trouble: str) -> None:
    """Calls are answered or refused as ever, a revocation is in force, SIGTERM ends the process."""
    log = tmp_path / "log"
    with ExitStack() as reading, scripted(says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")) as script:
        if trouble == "its disk is full":
            log.symlink_to("/dev/full")
        else:
            os.mkfifo(log)
            reading.callback(os.close, os.open(log, os.O_RDONLY | os.O_NONBLOCK))
        with weighbridge(tmp_path, script.base_url) as stand:
            if trouble == "its reader has gone":
                reading.close()
            elif trouble == "nobody reads it":
                with closing(os.fdopen(os.open(log, os.O_WRONLY | os.O_NONBLOCK), "wb", buffering=0)) as pipe:
                    while pipe.write(bytes(4096)):
                        pass
            url, key = f"{stand.base_url}/v1beta/models", stand.key()
            with httpx2.Client(timeout=DEADLINE_S) as client:
                for _ in range(20):
                    assert client.get(url, headers={"x-goog-api-key": "none"}).status_code == 400
                assert client.get(url, headers={"x-goog-api-key": key}).status_code == 200
                database = open_database(stand.storage)
                keys.revoke(database, keys.list_keys(database)[0].id, 1, actor="test")
                until(lambda: client.get(url, headers={"x-goog-api-key": key}).status_code == 400, "it is refused")
            assert stand.stop(signal.SIGTERM) == 0
