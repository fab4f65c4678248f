"""`weighbridge emulator`, as a process of its own."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from typer.testing import CliRunner

from proxy.cli.main import app


@contextmanager
def _started(*options: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "proxy", "emulator", "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _ask(base_url: str, key: str) -> httpx2.Response:
    body = {"contents": [{"parts": [{"text": "hello"}]}]}
    return httpx2.post(f"{base_url}/v1/models/gemini-3.8-flash:generateContent?key={key}", json=body)


def test_json_prints_one_line_with_all_that_a_program_needs_and_then_serves(tmp_path: Path) -> None:
    file = tmp_path / "account.jsonl"
    with _started("--json", "--key", "mine", "--account", str(file)) as process:
        told: dict[str, Any] = json.loads(_first_line(process))
        assert list(told) == ["base_url", "key", "account_url"]
        answer = _ask(told["base_url"], told["key"])
        assert answer.status_code == 200
        entries = httpx2.get(told["account_url"]).json()["entries"]
        assert [entry["id"] for entry in entries] == [answer.json()["responseId"]]
        assert json.loads(file.read_text(encoding="utf-8").splitlines()[0])["id"] == entries[0]["id"]


def test_it_prints_where_it_is_its_key_and_examples_and_ends_quietly_on_ctrl_c() -> None:
    with _started() as process:
        base_url = _first_line(process).split()[-1]
        assert _ask(base_url, "emulator-key").status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0
        assert process.stdout is not None
        assert process.stderr is not None
        rest, errors = process.stdout.read(), process.stderr.read()
    assert errors == ""
    assert rest.count("curl -s") == 3
    assert f"{base_url}/v1beta/models/gemini-nano-banana-2.1:generateContent" in rest
    assert "emulator-key" in rest
    assert "docs/emulator.md" in rest


def test_a_taken_port_is_told_in_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["emulator", "--port", str(port)])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: can't listen on 127.0.0.1:{port} (")
    assert "Address already in use" in result.stderr
    assert "try --port 0" in result.stderr


def test_an_account_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["emulator", "--port", "0", "--account", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stderr == f"error: {tmp_path} can't be written: Is a directory. Try another file\n"


def test_what_listens_on_every_address_is_told_by_one_that_a_client_can_use() -> None:
    with _started("--json", "--host", "0.0.0.0") as process:
        told: dict[str, Any] = json.loads(_first_line(process))
        assert told["base_url"].startswith("http://127.0.0.1:")
        assert _ask(told["base_url"], told["key"]).status_code == 200


def test_nothing_is_added_to_googles_headers() -> None:
    with _started("--json") as process:
        told: dict[str, Any] = json.loads(_first_line(process))
        headers = _ask(told["base_url"], told["key"]).headers
    assert headers.get_list("server") == ["scaffolding on HTTPServer2"]
    assert len(headers.get_list("date")) == 1
