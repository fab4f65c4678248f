"""Bodies: what can't be read, or asks for what there isn't, is refused with each fault named and no value shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.control.admin import bodies
from tests.control.admin.conftest import Admin

pytestmark = pytest.mark.anyio

GOOD = {"project": "acme", "cost_usd": "-1.5", "why": "torn"}


async def refused(admin: Admin, body: bytes, content_type: str = "application/json") -> tuple[int, dict[str, Any]]:
    answer = await admin.client.post("adjustments", content=body, headers={"content-type": content_type})
    assert answer.headers["content-type"] == "application/problem+json"
    assert admin.records() == []
    told: dict[str, Any] = answer.json()
    return answer.status_code, told


NO_OBJECTS = [
    *(b"", b"{", b"nonsense", b'{"why": "\xff"}', b'{"why": "\\ud800"}', b"[1]", b'"text"', b"null", b"NaN"),
    b"[" * 60_000,
    b'{"of":' * 10_000,
]
OTHER_TYPES = ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"]
FAULTS: list[tuple[dict[str, object], str, str]] = [
    ({"cost_usd": -1.5}, "cost_usd", "must be a string"),
    ({"cost_usd": 3}, "cost_usd", "must be a string"),
    ({"why": None}, "why", "must be a string"),
    ({"of": ["a"]}, "of", "must be a string"),
    ({"wyh": "torn"}, "wyh", "there is no such field here"),
]


async def test_what_is_no_json_object_is_a_bad_request(admin: Admin) -> None:
    for body in NO_OBJECTS:
        status, told = await refused(admin, body)
        assert (status, told["type"]) == (400, "/docs/admin-api#bad-request"), body[:40]


async def test_a_body_that_is_not_called_json_is_refused(admin: Admin) -> None:
    """Curl's own default, and all that a page may send without asking first."""
    for content_type in OTHER_TYPES:
        status, told = await refused(admin, json.dumps(GOOD).encode(), content_type)
        assert (status, told["type"]) == (415, "/docs/admin-api#unsupported-media-type"), content_type


async def test_a_body_over_64_kb_is_refused_and_one_of_64_kb_is_read(admin: Admin) -> None:
    assert bodies.MOST_BYTES == 65_536
    body = json.dumps(GOOD).encode()
    assert (await refused(admin, body.ljust(bodies.MOST_BYTES + 1)))[0] == 413
    answer = await admin.client.post(
        "adjustments",
        content=body.ljust(bodies.MOST_BYTES),
        headers={"content-type": "application/json; charset=utf-8"},
    )
    assert answer.status_code == 201


async def test_types_are_not_converted_and_unknown_fields_not_passed_over(admin: Admin) -> None:
    for change, field, message in FAULTS:
        status, told = await refused(admin, json.dumps(GOOD | change).encode())
        assert (status, told["type"]) == (422, "/docs/admin-api#invalid")
        assert told["errors"] == [{"field": field, "message": message}]


async def test_all_that_is_wrong_is_said_at_once(admin: Admin) -> None:
    status, told = await refused(admin, b'{"project": "AIzaSyA-secret-of-somebody", "cost_usd": 7654321, "more": 1}')

    assert status == 422
    assert [fault["field"] for fault in told["errors"]] == ["cost_usd", "why", "more"]
    assert "secret" not in json.dumps(told)
    assert "7654321" not in json.dumps(told)
