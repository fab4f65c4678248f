"""`weighbridge demo` as somebody who has just installed it runs it: in an empty folder, on a terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import httpx2
import pytest
from PIL import Image

from proxy.cli.image.command import DEFAULT_MODEL
from proxy.cli.snippets import snippets
from tests.journeys.watching import TEXT, body, open_leases, refuses, until

ROOT = Path(__file__).parents[2]
DEMO = [sys.executable, "-m", "proxy", "demo", "-o", "picture.jpg"]
ENVIRON = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}


def usage(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "proxy", "usage", *arguments]
    environ = ENVIRON | {"WEIGHBRIDGE_STORAGE__DATA_DIR": "weighbridge-data/demo"}
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=True).stdout


def told(printed: str, what: str) -> str:
    """What stands behind `what` in what the demo printed."""
    found = re.search(rf"{what}:? +(\S+)", printed)
    assert found is not None, printed
    return found[1]


def test_once_makes_a_picture_and_its_bill_without_any_network(tmp_path: Path) -> None:
    """Run where there is no network but a loopback: on the usual ports, for nobody has them there."""
    alone = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    done = subprocess.run([*alone, *DEMO, "--once"], cwd=tmp_path, env=ENVIRON, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    with Image.open(tmp_path / "picture.jpg") as picture:
        picture.load()
        assert f"picture.jpg: {picture.format}, {picture.width} x {picture.height}" in done.stdout
    (record,) = [json.loads(line) for line in usage(tmp_path, "export").splitlines()]
    assert told(done.stdout, rf"\n{DEFAULT_MODEL}") == f"${record['cost_usd']}"
    assert json.loads(usage(tmp_path, "report", "--json"))["total"]["cost_usd"] == record["cost_usd"]
    assert record["rates"]
    for name, rate in record["rates"].items():
        assert told(done.stdout, name) == f"{rate['quantity']:,}"
    assert "http://" not in done.stdout, "the server has ended: none of its addresses is of any use"


def test_the_command_that_it_prints_prints_its_bill(tmp_path: Path) -> None:
    done = subprocess.run([*DEMO, "--once"], cwd=tmp_path, env=ENVIRON, capture_output=True, text=True)
    line = done.stdout.partition("The bill: ")[2].replace("python", sys.executable, 1)
    bill = subprocess.run(["sh", "-c", line], cwd=tmp_path, env=ENVIRON, capture_output=True, text=True)
    assert (bill.returncode, bill.stderr) == (0, "")
    assert told(done.stdout, rf"\n{DEFAULT_MODEL}").removeprefix("$") in bill.stdout


HELD_UP = """
import asyncio
from proxy.cli import demo
make = demo.create_app

def held():
    app = make()

    async def answer(scope, receive, send):
        told = asyncio.Event()
        asyncio.get_running_loop().add_reader(0, told.set)
        await told.wait()
        asyncio.get_running_loop().remove_reader(0)
        await app(scope, receive, send)

    return answer

demo.create_app = held
from proxy.__main__ import main
main()
"""
HELD = [sys.executable, "-c", HELD_UP, *DEMO[3:]]
"""A demo whose emulator answers when its standard input has ended: until then its call is under way."""


@contextmanager
def serving(folder: Path, program: Sequence[str] = DEMO) -> Iterator[subprocess.Popen[str]]:
    """A demo with the usual ports taken, in a process group of its own, as a shell starts it."""
    with ExitStack() as stack:
        for port in (8080, 8081):
            with suppress(OSError):  # then somebody else has it
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
        demo = stack.enter_context(
            subprocess.Popen(
                program,
                cwd=folder,
                env=ENVIRON,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        try:
            yield demo
        finally:
            with suppress(ProcessLookupError):
                os.killpg(demo.pid, signal.SIGKILL)


def read_until(demo: subprocess.Popen[str], what: str) -> str:
    """What it prints, up to the line that holds `what`."""
    assert demo.stdout is not None
    printed = ""
    while what not in printed:
        line = demo.stdout.readline()
        assert line, printed
        printed += line
    return printed


def ctrl_c(demo: subprocess.Popen[str]) -> None:
    os.killpg(demo.pid, signal.SIGINT)


def next_error(demo: subprocess.Popen[str]) -> str:
    """What it says next on stderr, save of the lock by which a test holds its call."""
    assert demo.stderr is not None
    while "ledger_locked" in (line := demo.stderr.readline()) or "ledger_available" in line:
        pass
    return line


def assert_gone(demo: subprocess.Popen[str], code: int = 0) -> None:
    """It ended by itself, said nothing more, and left no process."""
    assert demo.wait(30) == code
    assert next_error(demo) == ""
    with pytest.raises(ProcessLookupError):
        os.killpg(demo.pid, 0)


def test_with_the_usual_ports_taken_it_serves_on_free_ones_until_ctrl_c(tmp_path: Path) -> None:
    with serving(tmp_path) as demo:
        printed = read_until(demo, "Serving until Ctrl-C")
        base_url, metrics = told(printed, "Base URL"), told(printed, "Metrics")
        assert not {base_url, metrics} & {"http://127.0.0.1:8080", "http://127.0.0.1:8081/metrics"}
        for text in snippets(base_url, told(printed, "Key"), DEFAULT_MODEL).values():
            assert text in printed
        headers = {"x-goog-api-key": told(printed, "Key")}
        answer = httpx2.post(f"{base_url}{TEXT}generateContent", json=body("hi"), headers=headers)
        assert answer.status_code == 200
        assert "weighbridge_requests_total" in httpx2.get(metrics).text
        ctrl_c(demo)
        assert_gone(demo)
        assert refuses(base_url)
        assert refuses(metrics)


@contextmanager
def held_call(demo: subprocess.Popen[str], folder: Path) -> Iterator[None]:
    """Its call is under way and can't be written down, so that it doesn't end, for so long."""
    assert demo.stdin is not None
    data_dir = folder / "weighbridge-data/demo"
    until(lambda: open_leases(data_dir) == 1, "the call is under way")
    with closing(sqlite3.connect(data_dir / "ledger/0.db", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        demo.stdin.close()
        yield
        holder.execute("ROLLBACK")


def test_ctrl_c_in_the_midst_of_the_call_lets_it_finish_and_ends(tmp_path: Path) -> None:
    with serving(tmp_path, HELD) as demo:
        read_until(demo, "Upstream: the emulator")
        with held_call(demo, tmp_path):
            ctrl_c(demo)
            assert "waiting up to 5 s for 1 call to end" in next_error(demo)
        assert "http://" not in read_until(demo, "The bill")
        assert_gone(demo)
    Image.open(tmp_path / "picture.jpg").close()


def test_ctrl_c_breaks_off_a_call_that_takes_too_long(tmp_path: Path) -> None:
    with serving(tmp_path, HELD) as demo:
        read_until(demo, "Upstream: the emulator")
        with held_call(demo, tmp_path):
            ctrl_c(demo)
            assert "waiting up to 5 s for 1 call to end" in next_error(demo)
            assert "calls_broken_off" in next_error(demo)
        assert_gone(demo)
        assert demo.stdout is not None
        assert demo.stdout.read() == "\n"
    assert not (tmp_path / "picture.jpg").exists()
    assert len(usage(tmp_path, "export").splitlines()) == 1, "Google has billed it"
    assert open_leases(tmp_path / "weighbridge-data/demo") == 0
