"""JSON on the pages is what a server answers: the same fields, of the same kinds; problems and models whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.docs.blocks import all_blocks
from tests.journeys.watching import PICTURE, TEXT, body
from tests.stand import Weighbridge, weighbridge

MODEL = "gemini-3.8-flash"
SETTINGS = {"upstreams": {"name": "google", "limits": {f'"{MODEL}"': {"rpm": 60}}}}


def shown(page: str, *, with_field: str) -> Any:
    """The block of JSON of a page that has this field."""
    (found,) = (each for each in map(json.loads, _json(page)) if with_field in each)
    return found


def _json(page: str) -> Iterator[str]:
    return (block.text for block in all_blocks("json") if block.page == page)


def lacking(wanted: Any, has: Any, where: str = "") -> Iterator[str]:
    """Where an answer hasn't what a page shows, or something of another kind. Null is of any kind."""
    if isinstance(wanted, dict) and isinstance(has, dict):
        for name, value in wanted.items():
            yield from lacking(value, has[name], f"{where}.{name}") if name in has else [f"{where}.{name}"]
    elif isinstance(wanted, list) and isinstance(has, list) and wanted:
        yield from lacking(wanted[0], has[0], f"{where}[0]") if has else [f"{where}[0]"]
    elif None not in (wanted, has) and type(wanted) is not type(has):
        yield where


@pytest.fixture(scope="module")
def answered(upstream: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Weighbridge, str, str]]:
    """A server with a project whose key has made a picture; that key, and the call's id."""
    with weighbridge(tmp_path_factory.mktemp("weighbridge"), upstream, SETTINGS) as stand:
        key = stand.key()
        made = post(stand, PICTURE, key)
        assert made.status_code == 200
        yield stand, key, made.headers["x-weighbridge-request-id"]


def post(stand: Weighbridge, path: str, key: str, prompt: str = "hello") -> httpx2.Response:
    return httpx2.post(stand.base_url + path, json=body(prompt), headers={"x-goog-api-key": key}, timeout=30)


def ask(stand: Weighbridge, path: str, key: str) -> Any:
    return httpx2.get(f"{stand.base_url}{path}", headers={"x-goog-api-key": key}, timeout=30).json()


def admin(stand: Weighbridge, path: str, document: Any = None) -> Any:
    token = (stand.data_dir / "admin-token").read_text().strip()
    url, headers = f"{stand.admin_url}/admin/v1/{path}", {"Authorization": f"Bearer {token}"}
    if document is None:
        return httpx2.get(url, headers=headers, timeout=30).json()
    return httpx2.post(url, headers=headers, json=document, timeout=30).json()


def test_an_account(answered: tuple[Weighbridge, str, str]) -> None:
    """docs/account.md: what was spent, and one call."""
    stand, key, call = answered
    assert [*lacking(shown("docs/account.md", with_field="rows"), ask(stand, "/weighbridge/v1/usage", key))] == []
    one = shown("docs/account.md", with_field="request_id")
    assert [*lacking(one, ask(stand, f"/weighbridge/v1/calls/{call}", key))] == []


def test_a_record(answered: tuple[Weighbridge, str, str]) -> None:
    """README and docs/metering.md: some fields of a picture's record, as the export has it."""
    record = json.loads(answered[0].run("usage", "export").splitlines()[0])
    assert [*lacking(shown("README.md", with_field="usage"), record)] == []
    assert [*lacking(shown("docs/metering.md", with_field="priced_as"), record)] == []


def test_a_model(answered: tuple[Weighbridge, str, str]) -> None:
    """docs/openai-images.md: word for word."""
    stand, key, _ = answered
    model = shown("docs/openai-images.md", with_field="x_weighbridge")
    assert ask(stand, f"/openai/v1/models/{model['id']}", key) == model


def test_limits(answered: tuple[Weighbridge, str, str]) -> None:
    """docs/limits.md and docs/admin-api.md: what a key sees that is over, and what an operator does."""
    stand, _, _ = answered
    stand.run("project", "create", "limited", "--rpm", "0")
    refused = post(stand, f"{TEXT}generateContent", stand.key("limited"))
    assert refused.status_code == 429
    assert [*lacking(shown("docs/limits.md", with_field="error"), refused.json())] == []
    told = admin(stand, "projects/limited/limits")
    assert [*lacking(shown("docs/admin-api.md", with_field="limits"), told)] == []


def test_a_problem(answered: tuple[Weighbridge, str, str]) -> None:
    """docs/admin-api.md: word for word."""
    document = {"project": "alce", "cost_usd": "-1.50", "why": "the picture of Monday was torn"}
    assert admin(answered[0], "adjustments", document) == shown("docs/admin-api.md", with_field="errors")


def test_upstreams(answered: tuple[Weighbridge, str, str]) -> None:
    """docs/admin-api.md: one that is out for a model, with a quota of its own."""
    stand, key, _ = answered
    post(stand, f"{TEXT}generateContent", key, "[[status=429]]")
    told = admin(stand, "upstreams")
    assert [*lacking(shown("docs/admin-api.md", with_field="upstreams"), told)] == []


def test_what_differs_is_seen() -> None:
    """A field that isn't there, an empty list, another kind."""
    assert [*lacking({"a": [{"b": 1}], "c": "", "d": None}, {"a": [{"b": 2, "e": 3}], "c": "x", "d": {}})] == []
    assert [*lacking({"a": [{"b": 1}]}, {"a": [{"c": 1}]})] == [".a[0].b"]
    assert [*lacking({"a": [1], "b": 1}, {"a": [], "b": "1"})] == [".a[0]", ".b"]
