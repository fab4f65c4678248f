"""The log of a running server: a line for each request, no secret in any, nothing in it that a caller could forge."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2
import pytest
from typer.testing import CliRunner

from proxy.cli.main import app
from tests.journeys.watching import until
from tests.stand import Weighbridge, emulator, weighbridge

MODEL = "gemini-3.8-flash"
BODY = b'{"contents":[{"parts":[{"text":"hello"}]}]}'
UPSTREAM_KEY = "up+stream/key%of=no~shape"
ADMIN_TOKEN = "admin'token\\of:no@shape"
HTTP = httpx2.Client(timeout=30)
SHAPES = [
    "AIzaSyA1234567890abcdefghijklmnopqrstuvw",
    "AQ.Ab8RN6Kd_abcdefghijklmnop-1234",
    "wba_00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
    "ya29.a0AfH6SMBx-abcdef_123",
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weighbridge]:
    with emulator(keys=[UPSTREAM_KEY]) as upstream:
        stand = Weighbridge(
            tmp_path_factory.mktemp("logs"),
            upstream,
            upstream_key=UPSTREAM_KEY,
            environment={"WEIGHBRIDGE_ADMIN_TOKEN": ADMIN_TOKEN},
        )
        try:
            stand.start()
            yield stand
        finally:
            stand.close()


def lines(stand: Weighbridge) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stand.log().split("\n") if line.startswith("{") and line.endswith("}")]


def told(stand: Weighbridge, answer: httpx2.Response) -> dict[str, Any]:
    """The one line of a request."""
    request_id = answer.headers["x-weighbridge-request-id"]
    of_it = lambda: [line for line in lines(stand) if line.get("request_id") == request_id]  # noqa: E731
    until(of_it, "its line in the log")
    (line,) = of_it()
    assert line["event"] == "call"
    return line


def ask(stand: Weighbridge, path: str, key: str, **headers: str) -> httpx2.Response:
    given = {"content-type": "application/json", "x-goog-api-key": key, **headers}
    return HTTP.post(f"{stand.base_url}{path}", content=BODY, headers=given)


def test_a_call_is_told_as_the_ledger_has_it(server: Weighbridge) -> None:
    line = told(server, ask(server, f"/v1beta/models/{MODEL}:generateContent", server.key("alice", "ci")))
    record = server.records()[-1]
    assert (line["project"], line["key"], line["operation"], line["model"]) == ("alice", "ci", "generateContent", MODEL)
    assert (line["upstream"], line["status"], line["outcome"]) == ("emulator", 200, record.outcome)
    assert line["input_tokens"] + line["output_tokens"] == record.total_token_count
    assert round(float(line["cost_usd"]) * 1e9) == record.cost_usd
    assert line["first_byte_ms"] == record.first_byte_ms <= line["ms"]


def test_a_free_call_and_an_account_are_told_too(server: Weighbridge) -> None:
    key = server.key()
    line = told(server, ask(server, f"/v1beta/models/{MODEL}:countTokens", key))
    assert (line["operation"], line["upstream"], line["outcome"]) == ("countTokens", "emulator", "ok")
    asked = httpx2.get(f"{server.base_url}/weighbridge/v1/limits", headers={"x-goog-api-key": key}, timeout=30)
    assert told(server, asked)["operation"] == "weighbridge.limits"


def test_no_secret_gets_into_the_log_wherever_a_request_has_it(server: Weighbridge) -> None:
    """In the path, the query, a header, plain or encoded; what is refused, what is served, and what is no request."""
    key = server.key()
    secrets = [*SHAPES, key, UPSTREAM_KEY, ADMIN_TOKEN]
    answers = []
    for secret in secrets:
        for written in (quote(secret, safe=""), "".join(f"%{ord(each):02x}" for each in secret)):
            answers += [
                ask(server, f"/v1beta/models/{written}:generateContent", key),
                ask(server, f"/v1beta/models/x{written}y:{written}", key),
                ask(server, f"/{written}/{written}?{written}={written}", key),
                ask(server, f"/v1beta/models/{MODEL}:generateContent?key={written}", "wb_other"),
                ask(server, f"/v1beta/models/{MODEL}:generateContent?{written}=1&alt={written}", key),
            ]
        answers.append(ask(server, f"/v1beta/models/{MODEL}:generateContent", secret, authorization=f"Bearer {secret}"))
        HTTP.get(f"{server.admin_url}/admin/v1/{quote(secret, safe='')}?key={quote(secret)}")
    where = urlsplit(server.base_url)
    for secret in secrets:
        with socket.create_connection((where.hostname or "", where.port or 0), 20) as raw:
            raw.sendall(f"GET /{secret} {secret} HTTP/1.1\r\n{secret}\r\n\r\n".encode())
            raw.recv(65536)
    told(server, ask(server, "/the/last/one", key))
    log = server.log()
    ids = [answer.headers["x-weighbridge-request-id"] for answer in answers]
    assert [request_id for request_id in ids if log.count(request_id) != 1] == []
    for secret in secrets:
        for written in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1], repr(secret)[1:-1]):
            assert written not in log, secret
        assert not [line for line in lines(server) if secret in json.dumps(line, ensure_ascii=False)], secret
    assert log.count("[redacted]") >= len(secrets)


def test_nothing_that_a_caller_sends_can_begin_a_line(server: Weighbridge, tmp_path: Path) -> None:
    """Neither in JSON nor in lines for people, which a terminal shows."""
    nasty = 'm\n{"event":"call"}\r\x1b[2J\x9b\u2028\u202e" status=200'
    path = f"/v1beta/models/{quote(nasty, safe='')}:generateContent"
    before = len(server.log().splitlines())
    assert told(server, ask(server, path, server.key()))["status"] == 400
    assert len(server.log().splitlines()) == before + 1
    with weighbridge(tmp_path, server.upstream_url, {"logs": {"format": "people"}}) as people:
        answer = ask(people, path, people.key())
        request_id = answer.headers["x-weighbridge-request-id"]
        until(lambda: request_id in people.log(), "its line in the log")
        (line,) = [line for line in people.log().split("\n") if request_id in line]
        assert line.isprintable()
        assert line.split()[1:3] == ["info", "call"]
        assert " outcome=refused ms=" in line
        assert " refused=BAD_REQUEST why=" in line


def test_successes_are_sampled_refusals_never_and_a_reload_takes_that(server: Weighbridge) -> None:
    """`format` waits for the next start, and a warning says so."""
    key, path = server.key(), f"/v1beta/models/{MODEL}:countTokens"
    server.settings = {"logs": {"sample_successes": 0.0, "format": "people"}}
    config = server.folder / "weighbridge.toml"
    config.write_text(server._toml())
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)
    until(lambda: '"configuration_reloaded"' in server.log(), "it is reloaded")
    assert "logs.format: takes effect at the next start" in server.log()
    untold = [ask(server, path, key).headers["x-weighbridge-request-id"] for _ in range(5)]
    told(server, ask(server, path, "nonsense"))
    assert [request_id for request_id in untold if request_id in server.log()] == []


@pytest.mark.parametrize("wrong", [["{}"], ["--{}"], ["key", "{}"], ["key", "list", "{}"], ["key", "list", "--{}"]])
def test_a_mistake_in_a_command_does_not_repeat_a_key(wrong: list[str]) -> None:
    for secret in SHAPES:
        done = CliRunner().invoke(app, [word.format(secret) for word in wrong], prog_name="weighbridge")
        assert done.exit_code > 0
        assert secret[:12] not in done.output
        assert "[redacted]" in done.output
