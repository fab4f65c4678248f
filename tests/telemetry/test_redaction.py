"""Redaction: no secret is left in a text, whatever its shape, however it is written, and wherever it stands."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import reduce
from urllib.parse import quote

import pytest

from proxy.config import secrets
from proxy.telemetry.redaction import LONGEST_SECRET, REDACTED, redact, redacted, shortened, suspicious

SHAPES = [
    "AIzaSyA1234567890abcdefghijklmnopqrstuvw",
    "AQ.Ab8RN6Kd_abcdefghijklmnop-1234",
    "wb_0123456789abcdefghijABCDEFGHIJ01abcdef",
    "wba_00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
    "ya29.a0AfH6SMBx-abcdef_123",
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
]
READ = [
    "not-a-shape-at-all",
    "pass/word?of:weighbridge@%41",
    "quo\"te\\d'%25",
    "plain-admin-token-0123",
    "[{(.*+?$^)}]",
]
"""Secrets that look like nothing, as operators have them: they are known because they were read."""
AROUND = [
    "{}",
    "key {} refused",
    "x={}&y",
    "'{}'",
    "<{}>",
    "Bearer {}",
    "https://h/p?key={}&alt=sse",
    "first line\n{}\nlast line",
    "é\u202e{}\x1b[0m",
]
WRITTEN: dict[str, Callable[[str], str]] = {
    "plain": str,
    "percent-encoded": lambda text: quote(text, safe=""),
    "percent-encoded throughout": lambda text: "".join(f"%{ord(each):02x}" for each in text),
    "percent-encoded twice": lambda text: quote(quote(text, safe=""), safe=""),
    "escaped as in JSON": lambda text: json.dumps(text)[1:-1],
    "escaped as in JSON throughout": lambda text: "".join(f"\\u{ord(each):04X}" for each in text),
    "escaped twice": lambda text: json.dumps(json.dumps(text)),
    "as Python shows bytes": lambda text: "".join(f"\\x{ord(each):02x}" for each in text),
    "by repr": repr,
    "percent-encoded four times": lambda text: reduce(
        lambda written, _: quote(written, safe=""), range(3), WRITTEN["percent-encoded throughout"](text)
    ),
    "percent-encoded, then escaped throughout": lambda text: WRITTEN["escaped as in JSON throughout"](
        WRITTEN["percent-encoded throughout"](text)
    ),
    "percent-encoded in JSON": lambda text: json.dumps({"q": quote(text, safe="")}),
}


@pytest.fixture
def _read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_known", {})
    for secret in READ:
        secrets.remember(secret)


@pytest.mark.usefixtures("_read")
@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("secret", [*SHAPES, *READ])
def test_every_secret_is_taken_out_however_it_is_written(secret: str, written: str) -> None:
    for around in AROUND:
        text = around.format(WRITTEN[written](secret))
        assert WRITTEN[written](secret) not in (left := redact(text)), around
        assert REDACTED in left
        assert left.startswith(around.partition("{}")[0].removesuffix("key=")[:8])
        assert suspicious(json.dumps(text))


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("authorization: Bearer junk-of-no-shape", "junk"),
        ("AUTHORIZATION:  basic dXNlcjpwYXNz", "dXNl"),
        ("x-goog-api-key: junk-of-no-shape", "junk"),
        ("(b'x-goog-api-key', b'junk')", "junk"),
        ("{'x-api-key': 'junk'}", "junk"),
        ('{"password": "junk with blanks"}', "junk"),
        ("host=db user=w password=junk dbname=w", "junk"),
        ("password='junk' x", "junk"),
        ("?access_token=junk&alt=sse", "junk"),
        ("?KEY=junk", "junk"),
        ("?%24key=junk", "junk"),
        ("?k%65y=junk", "junk"),
        ("alt=sse&key=junk", "junk"),
        ("key=junk-of-no-shape", "junk"),
        ("redis://:junk@redis:6379/0", "junk"),
        ("rediss://default:ju@nk:@10.0.0.1:6379", "ju@nk"),
        ("postgresql+psycopg://w:junk@db/weighbridge?sslmode=require", "junk"),
        ("http://user:junk@proxy:3128", "junk"),
        ("redis%3A%2F%2F%3Ajunk%40redis", "junk"),
        ("Set-Cookie: session=junk-of-no-shape", "junk-of"),
        ("bearer\tjunk-of-no-shape", "junk"),
        ("Bearer%20junk-of-no-shape", "junk"),
    ],
)
def test_what_stands_where_a_secret_stands_is_taken_out_whatever_it_looks_like(text: str, secret: str) -> None:
    assert secret not in redact(text)
    assert suspicious(json.dumps(text))


@pytest.mark.parametrize(
    "text",
    [
        "/v1beta/models/gemini-3-pro-image:generateContent",
        "AIza",
        "wb_",
        "a key was refused",
        "input_tokens=5 output_tokens=7",
        "api_key_env = GEMINI_API_KEY",
        "Send the header `Authorization: Bearer …` with the admin token: it stands in admin-token.",
        "the password of PostgreSQL: set database_password_env, or _file",
        "http://127.0.0.1:8080/v1beta/models/x@001",
        "postgresql://weighbridge@db:5432/weighbridge",
        "redis://10.0.0.1:6379/0",
        "80 % of C:\\new\\table, 100%",
        "café 🙂 %C3%A9 \\u00e9",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_a_short_secret_is_taken_out_where_it_is_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a password of two letters would leave nothing of any line."""
    monkeypatch.setattr(secrets, "_known", {})
    secrets.remember("abc")
    assert redact("abc, xabc abc") == f"{REDACTED}, xabc {REDACTED}"


def test_a_value_is_redacted_at_every_depth_names_too() -> None:
    key = SHAPES[2]
    value = {"a": [{key: [key, 1, None]}], "headers": [["X-Goog-Api-Key", "junk"], ["accept", "x"]], "token": "junk"}
    left = redacted(value)
    assert left == {
        "a": [{REDACTED: [REDACTED, 1, None]}],
        "headers": [["X-Goog-Api-Key", REDACTED], ["accept", "x"]],
        "token": REDACTED,
    }


@pytest.mark.usefixtures("_read")
@pytest.mark.parametrize("secret", [*SHAPES, *READ])
def test_a_cut_leaves_no_part_of_a_secret(secret: str) -> None:
    """Wherever it stands about the cut, of a text that has many others before it."""
    for before in range(60, 110, 7):
        text = "." * before + secret + " " + "x" * 5 * LONGEST_SECRET + " " + secret + "." * before
        left = shortened(text, 200)
        assert secret[3:9] not in left
        assert len(left) < 260


@pytest.mark.usefixtures("_read")
def test_at_random_no_secret_gets_by_and_all_else_stays() -> None:
    """Secrets in texts of any characters, among escapes and half escapes: what is around them is as it was."""
    draw = random.Random(9)
    alphabet = "ab %\\\"'u0041x&=\n\té🙂{}[]:/"
    for _ in range(2000):
        before, after = ("".join(draw.choices(alphabet, k=draw.randrange(12))) for _ in range(2))
        secret = draw.choice([*SHAPES, *READ])
        # A blank, so that what is before or after isn't read as one with it.
        text = f"{before} {draw.choice(list(WRITTEN.values()))(secret)} {after}"
        left = redact(text)
        assert REDACTED in left
        assert left.startswith(before)
        assert left.endswith(after)


def test_redaction_takes_time_in_proportion() -> None:
    """Nothing that a caller can send makes a pattern go back and forth: a text that did would not come to its end."""
    for piece in (
        "://a:",
        "token" * 3 + "_",
        "bearer ",
        "key=",
        "%25",
        "\\\\",
        "\\u0025",
        "authorization",
        "a_",
        "://",
    ):
        assert len(redact(piece * (20_000 // len(piece)))) > 0
