"""Lines are written by a thread: nobody waits for them, none is lost without a word."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import select
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxy.telemetry import outlet
from proxy.telemetry.outlet import Outlet


def as_it_is(event: bytes) -> bytes:
    return event + b"\n"


@contextlib.contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """As where the disk is full: what would make a file longer isn't taken."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def read_all(reader: int) -> list[str]:
    with os.fdopen(reader) as file:
        return file.read().splitlines()


def test_lines_arrive_whole_and_in_order(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    out = Outlet(writer, as_it_is)
    for number in range(300):
        out.write(b"line %d" % number)
    out.drain(20)
    os.close(writer)
    assert read_all(reader) == [f"line {number}" for number in range(300)]


def test_a_reader_that_stalls_holds_nobody_up_and_is_told_what_it_missed(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = pipe
    monkeypatch.setattr(outlet, "MOST_LINES", 100)
    out = Outlet(writer, as_it_is)
    for number in range(2_000):
        out.write(b"%d %b" % (number, b"x" * 1000))
    out.drain(0.01)  # nor does waiting for it take longer than that
    with ThreadPoolExecutor(1) as threads:
        came = threads.submit(read_all, reader)
        out.drain(20)
        out.write(b"the last one")
        out.drain(20)
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
    file = tmp_path / "log"
    with file.open("w") as stream:
        out = Outlet(stream.fileno(), as_it_is)
        with no_file_longer_than(0):
            for _ in range(3):
                out.write(b"no room")
            out.drain(20)
        out.write(b"room")
        out.drain(20)
    told, line = file.read_text().splitlines()
    assert json.loads(told) == {"event": "log_lines_lost", "lines": 3, "level": "error"}
    assert line == "room"


def test_what_is_written_in_a_row_is_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy server doesn't wake the thread for each line: what comes within its pause goes in one write."""
    reader, writer = os.pipe2(os.O_DIRECT)  # each read gives one write
    monkeypatch.setattr(outlet, "PAUSE_S", 3600.0)
    out = Outlet(writer, as_it_is)
    out.write(b"first")
    assert os.read(reader, 65536) == b"first\n"
    for _ in range(20):
        out.write(b"more")
        time.sleep(0.001)  # the thread has its chance
    out.drain(20)
    assert os.read(reader, 65536) == b"more\n" * 20
    os.close(reader)
    os.close(writer)


def test_who_has_nothing_to_say_has_no_thread(pipe: tuple[int, int]) -> None:
    """So a command is as quick as it was, and who forks takes no lock of another thread's along."""
    out = Outlet(pipe[1], as_it_is)
    out.drain(20)
    assert out._thread is None


def test_what_comes_after_a_line_that_was_cut_begins_a_line_of_its_own(tmp_path: Path) -> None:
    """A disk that becomes full takes the beginning of a line; what is told when there is room isn't glued to it."""
    file = tmp_path / "log"
    with file.open("w") as stream:
        out = Outlet(stream.fileno(), as_it_is)
        with no_file_longer_than(4):
            out.write(b"no room")
            out.drain(20)
        out.write(b"room")
        out.drain(20)
    assert file.read_text().splitlines() == ["no r", '{"event":"log_lines_lost","lines":1,"level":"error"}', "room"]


def test_workers_that_share_a_pipe_write_whole_lines_however_slow_its_reader_is(pipe: tuple[int, int]) -> None:
    """A full pipe takes a longer writing in pieces, with another's between them."""
    reader, writer = pipe
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 2 * select.PIPE_BUF)
    both = [Outlet(writer, as_it_is), Outlet(writer, as_it_is)]
    for number in range(400):
        for letter, out in zip((b"a", b"b"), both, strict=True):
            out.write(b"%d %b" % (number, letter * 200))
    with ThreadPoolExecutor(1) as threads:
        came = threads.submit(read_all, reader)
        for out in both:
            out.drain(20)
        os.close(writer)
        lines = came.result()
    assert sorted(lines) == sorted(f"{number} {letter * 200}" for number in range(400) for letter in "ab")
