"""Logs: no secret gets into them, whatever its shape and wherever it stands."""

from __future__ import annotations

import io
import json
import logging

import pytest
import structlog

from proxy.telemetry import logs

SECRETS = [
    "AIzaSyA1234567890abcdefghijklmnopqrstuvw",
    "AQ.Ab8RN6Kd_abcdefghijklmnop-1234",
    "wb_0123456789abcdefghijABCDEFGHIJ01abcdef",
    "ya29.a0AfH6SMBx-abcdef_123",
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
