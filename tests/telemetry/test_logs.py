"""Logs: no secret gets into them, whatever its shape and wherever it stands."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import structlog

from proxy.telemetry import logs

SECRETS = [
    "AIzaSyA1234567890abcdefghijklmnopqrstuvw",
    "AQ.Ab8RN6Kd_abcdefghijklmnop-1234",
    "wb_0123456789abcdefghijABCDEFGHIJ01abcdef",
    "wba_00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
    "ya29.a0AfH6SMBx-abcdef_123",
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "around", ["{}", "key {} refused", "x={}&y", "'{}'", "Bearer {}", "https://h/p?key={}&alt=sse"]
)
def test_every_shape_of_secret_is_taken_out(secret: str, around: str) -> None:
    assert secret not in logs.redact(around.format(secret))


@pytest.mark.parametrize(
    "text", ["/v1beta/models/gemini-3-pro-image:generateContent", "AIza", "wb_", "a key was refused"]
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert logs.redact(text) == text


@pytest.fixture
def said() -> io.StringIO:
    stream = io.StringIO()
    logs.configure(stream)
    logging.getLogger("uvicorn.error").setLevel(logging.NOTSET)  # a test's own server may have silenced it
    return stream


def test_fields_and_tracebacks_are_redacted(said: io.StringIO) -> None:
    log = structlog.get_logger()
    try:
        raise ValueError(SECRETS[0])
    except ValueError as error:
        log.warning("trouble", key=SECRETS[2], nested={"k": SECRETS[1]}, error=error, exc_info=True)
    assert not [secret for secret in SECRETS if secret in said.getvalue()]
    assert json.loads(said.getvalue())["event"] == "trouble"


def test_the_servers_own_lines_are_redacted_too(said: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").warning("bad request: ?key=%s", SECRETS[2])
    assert "bad request" in said.getvalue()
    assert SECRETS[2] not in said.getvalue()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(end)


def read_all(reader: int) -> list[str]:
    with os.fdopen(reader) as file:
        return file.read().splitlines()


def test_lines_arrive_whole_and_in_order(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    with os.fdopen(writer, "w") as stream:
        logs.configure(stream)
        log = structlog.get_logger()
        for number in range(300):
            log.info("line", number=number)
        logging.getLogger("uvicorn.error").error("the last one \udcff")
        logs.flush(20)
    *lines, last = read_all(reader)
    assert [json.loads(line)["number"] for line in lines] == list(range(300))
    assert json.loads(last)["event"] == "the last one \udcff"


def test_a_reader_that_has_gone_costs_lines_and_no_error(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        logs.configure(stream)
        for _ in range(3):
            structlog.get_logger().error("nobody reads this")
            logging.getLogger("uvicorn.error").error("nor this")
            logs.flush(20)


def test_a_reader_that_stalls_holds_nobody_up_and_is_told_what_it_missed(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = pipe
    monkeypatch.setattr(logs, "MOST_LINES", 100)
    outlet = logs.Outlet(writer)
    for number in range(2_000):
        outlet.write(f"{number} {'x' * 1000}\n")
    outlet.drain(0.01)  # nor does waiting for it take longer than that
    with ThreadPoolExecutor(1) as threads:
        came = threads.submit(read_all, reader)
        outlet.drain(20)
        outlet.write("the last one\n")
        outlet.drain(20)
        os.close(writer)
        lines = came.result()
    (told,) = [json.loads(line) for line in lines if line.startswith("{")]
    numbers = [int(line.split()[0]) for line in lines if line[0].isdigit()]
    assert numbers == sorted(numbers)
    assert told["event"] == "log_lines_lost"
    assert told["lines"] == 2_000 - len(numbers) > 0
    assert lines[-1] == "the last one"


def test_what_a_full_disk_did_not_take_is_told_when_there_is_room(tmp_path: Path) -> None:
    """A file that may not grow any more refuses what is written to it as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    file = tmp_path / "log"
    with file.open("w") as stream:
        outlet = logs.Outlet(stream.fileno())
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
            for _ in range(3):
                outlet.write("no room\n")
            outlet.drain(20)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        outlet.write("room\n")
        outlet.drain(20)
    told, line = file.read_text().splitlines()
    assert json.loads(told) == {"event": "log_lines_lost", "lines": 3, "level": "error"}
    assert line == "room"
