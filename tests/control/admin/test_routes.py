"""Whatever path, method or failure: the answer is a problem, and says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.control.admin.conftest import Admin

pytestmark = pytest.mark.anyio


UNKNOWN = ["/admin/", "/admin/v1", "/admin/v1/", "/admin/v1/adjustments/", "/admin/v2/adjustments"]
OTHER_METHODS = ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]


async def test_an_unknown_path_is_not_found_and_never_redirected(admin: Admin) -> None:
    for path in UNKNOWN:
        answer = await admin.client.get(f"{admin.url}{path}")
        assert (answer.status_code, answer.json()["type"]) == (404, "/docs/admin-api#not-found"), path
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_method_that_a_path_does_not_take_is_told_which_it_takes(admin: Admin) -> None:
    for method in OTHER_METHODS:
        answer = await admin.client.request(method, "adjustments")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST"), method
        assert answer.json()["type"] == "/docs/admin-api#method-not-allowed"


async def test_a_store_that_fails_is_unavailable_and_says_why(admin: Admin) -> None:
    Path(str(admin.database)).rename(admin.data_dir / "away.db")
    answer = await admin.client.post("adjustments", json={"project": "acme", "cost_usd": "1", "why": "x"})

    assert (answer.status_code, answer.json()["type"]) == (503, "/docs/admin-api#unavailable")
    assert "unable to open database file" in answer.json()["detail"]


async def test_a_mistake_of_ours_is_a_problem_too(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[object]:
        raise ZeroDivisionError("the secret inside")

    monkeypatch.setattr("proxy.billing.sources.ledger_files", lambda _: broken())
    answer = await admin.client.post("adjustments", json={"project": "acme", "cost_usd": "1", "why": "x"})

    assert (answer.status_code, answer.json()["type"]) == (500, "/docs/admin-api#internal")
    assert "secret" not in answer.text
