"""Logs: whatever a process tells, of its own accord or not, is one line, with no secret in it."""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from proxy.telemetry import logs
from tests.pages import ROOT, chapter_of, table_of

KEYS = ["AIzaSyA1234567890abcdefghijklmnopqrstuvw", "AQ.Ab8RN6Kd_abcdefghijklmnop-1234", "wb_" + "0a" * 19]


@pytest.fixture
def said() -> io.StringIO:
    stream = io.StringIO()
    logs.configure(stream)
    logging.getLogger("uvicorn.error").setLevel(logging.NOTSET)  # a test's own server may have silenced it
    return stream


def test_fields_and_tracebacks_are_redacted(said: io.StringIO) -> None:
    """Of a chain of exceptions and of a group, with their notes, over several lines."""
    log = structlog.get_logger()
    try:
        try:
            raise ValueError(f"first {KEYS[0]}\nand\n{KEYS[1]}")
        except ValueError as error:
            error.add_note(f"a note: {KEYS[2]}")
            raise ExceptionGroup(f"several {KEYS[0]}", [KeyError(KEYS[1]), OSError(5, "no", KEYS[2])]) from error
    except ExceptionGroup as error:
        log.warning("trouble", key=KEYS[2], nested={"k": KEYS[1]}, error=error, exc_info=True, **{KEYS[0]: 1})
    line = json.loads(said.getvalue())
    assert line["event"] == "trouble"
    assert line["exception"].count("[redacted]") == 6
    assert [key for key in KEYS if key in said.getvalue()] == []


def test_the_servers_own_lines_are_redacted_too(said: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").warning("bad request: ?key=%s", KEYS[2])
    assert json.loads(said.getvalue())["event"] == "bad request: ?key=[redacted]"
    assert json.loads(said.getvalue())["logger"] == "uvicorn.error"


def test_loggers_that_were_used_follow_another_configuration(said: io.StringIO) -> None:
    log = structlog.get_logger()
    log.info("to the first")
    second = io.StringIO()
    logs.configure(second, style="people", quiet=True)
    log.info("too quiet")
    log.error("to the second")
    assert json.loads(said.getvalue())["event"] == "to the first"
    assert second.getvalue().split(" ", 1)[1] == 'error    "to the second"\n'


def test_lines_arrive_whole_and_in_order(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    with os.fdopen(writer, "w") as stream:
        logs.configure(stream)
        log = structlog.get_logger()
        for number in range(300):
            log.info("line", number=number)
        logging.getLogger("uvicorn.error").error("the last one \udcff")
        logs.flush(20)
    with os.fdopen(reader) as file:
        *lines, last = file.read().splitlines()
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


PROGRAM = """
import asyncio, gc, logging, sys, threading, warnings
from proxy.config import secrets
from proxy.telemetry import logs
logs.configure(style=sys.argv[1])
logs.take_over()
key, literal = sys.argv[2:]
secrets.remember(literal)
warnings.warn(f"warned of {key} {literal}", stacklevel=1)
async def forgotten():
    raise ValueError(f"in a task: {key} {literal}")
async def main():
    task = asyncio.create_task(forgotten(), name=literal)
    await asyncio.wait([task])
    asyncio.get_running_loop().call_soon(lambda: int(f"in a callback: {key} {literal}"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
asyncio.run(main())
gc.collect()
class Sore:
    def __del__(self):
        raise ValueError(f"in a finalizer: {key} {literal}")
Sore()
thread = threading.Thread(target=lambda: int(f"in a thread: {key} {literal}"), name=literal)
thread.start()
thread.join()
logging.getLogger("x").error("%d misfits", literal)
logging.getLogger("x").error("%s", {"Authorization": f"Bearer {literal}"})
raise SystemError(f"at the end: {key} {literal}") from ValueError(key)
"""


@pytest.mark.parametrize("style", ["json", "people"])
def test_what_nobody_caught_is_told_without_secrets(tmp_path: Path, style: str) -> None:
    """Warnings, tasks, callbacks, finalizers, threads and the end itself: Python would print them as they are."""
    literal = "a/secret%of\\no'shape"
    command = [sys.executable, "-X", "dev", "-c", PROGRAM, style, KEYS[2], literal]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stdout == ""
    for what in (
        "warned of",
        "task",
        "a callback",
        "a finalizer",
        "a thread",
        "at the end",
        "misfits",
        "Authorization",
    ):
        assert what in ended.stderr, what
    for secret in (KEYS[2], literal, repr(literal)[1:-1], json.dumps(literal)[1:-1]):
        assert secret not in ended.stderr
    if style == "json":
        events = [json.loads(line)["event"] for line in ended.stderr.splitlines()]
        assert [event for event in events if event in ("error_ignored", "thread_failed", "crashed")] == [
            "error_ignored",
            "thread_failed",
            "crashed",
        ]


FORKING = """
import os, sys
from proxy.telemetry import logs
logs.configure()
logs.take_over()
import structlog
structlog.get_logger().error("of the parent")
if not os.fork():
    logs.name_process("worker 0")
    raise ValueError(sys.argv[1])
os.wait()
"""


def test_what_a_forked_process_dies_of_is_told_without_secrets() -> None:
    """As a worker of the supervisor: it has no thread of its parent's, and starts its own."""
    done = subprocess.run([sys.executable, "-c", FORKING, KEYS[2]], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert sorted((line["event"], line.get("process")) for line in lines) == [
        ("crashed", "worker 0"),
        ("of the parent", None),
    ]
    assert KEYS[2] not in done.stderr


LEVELS = {"info", "warning", "error", "exception", "critical"}


def texts(*nodes: ast.AST) -> set[str]:
    """What is written as a text in code."""
    found = (each.value for node in nodes for each in ast.walk(node) if isinstance(each, ast.Constant))
    return {each for each in found if isinstance(each, str)}


def logs_something(call: ast.Call) -> bool:
    """Also where the level hangs on a condition."""
    of = [each for each in ast.walk(call.func) if isinstance(each, ast.Attribute) and each.attr in LEVELS]
    return any(isinstance(each.value, ast.Name) and each.value.id == "log" for each in of)


def events(trees: list[ast.Module]) -> Iterator[str]:
    """Every event that a log call names, itself or by what is handed to the function that it stands in."""
    calls = {tree: [each for each in ast.walk(tree) if isinstance(each, ast.Call) and each.args] for tree in trees}
    for tree in trees:
        for call in filter(logs_something, calls[tree]):
            names = texts(call.args[0])
            if not names:  # a `_tell` of that file has it from its callers
                tells = [each for each in calls[tree] if ast.unparse(each.func).endswith("._tell")]
                names = {text for text in texts(*tells) if re.fullmatch(r"[a-z]+(_[a-z]+)+", text)}
            assert names, ast.unparse(call)
            yield from names


def test_every_event_is_documented_with_what_it_means_and_no_other() -> None:
    """docs/logs.md has a row for each event that code names, with its levels."""
    files = (file.read_text("utf-8") for file in (ROOT / "proxy").rglob("*.py"))
    logged = set(events([ast.parse(text) for text in files if "log." in text]))
    rows: dict[str, list[str]] = {}
    for cells in table_of(chapter_of("docs/logs.md", "Events")).values():
        rows |= dict.fromkeys(re.findall(r"`(\w+)`", cells[0]), cells)
    assert sorted(logged - rows.keys()) == []
    assert sorted(rows.keys() - logged) == ["log_line_failed", "log_lines_lost"]  # written where there is no logger
    assert all(set(re.findall(r"\w+", row[1])) <= LEVELS and len(row[2]) > 10 for row in rows.values())


def test_a_process_whose_standard_error_is_closed_runs_and_writes_it_nowhere(tmp_path: Path) -> None:
    """And no file that is opened later stands in its place: the log would be written into that."""
    program = "import os, sys; from proxy.telemetry import logs; logs.configure(); import gc; gc.collect(); "
    program += "file = open(sys.argv[1], 'w'); logs.log.warning('said'); logs.flush(20); print(file.fileno())"
    command = ["sh", "-c", 'exec "$0" -c "$1" "$2" 2>&-', sys.executable, program, str(tmp_path / "file")]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, (tmp_path / "file").read_text()) == (0, "")
    assert int(ended.stdout) != 2
