"""The control door: health, readiness, and metrics that Prometheus can read."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from proxy.control.routes import control_app
from proxy.telemetry.metrics import Metrics
from tests.servers import running

pytestmark = pytest.mark.anyio

NOTHING = Starlette()
"""In place of the admin API."""


def test_metrics_are_read_by_prometheus_own_parser() -> None:
    metrics = Metrics("1.2.3", ["m"])
    metrics.finished("alice", "generateContent", "m", 200, 0.2)
    with running(control_app(metrics=metrics, ready=lambda: True, admin=NOTHING)) as url:
        answer = httpx2.get(f"{url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    names = {family.name for family in text_string_to_metric_families(answer.text)}
    assert {"weighbridge_requests", "weighbridge_build_info", "weighbridge_cost_usd"} <= names


async def scraped(metrics: Metrics) -> int:
    """Asks the app, without a server, and counts the calls of functions on the loop's thread until it answers."""
    app, size, steps = control_app(metrics=metrics, ready=lambda: True, admin=NOTHING), 0, 0

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        nonlocal size
        size += len(message.get("body", b""))

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal steps
        steps += event == "call"

    scope = {"type": "http", "method": "GET", "path": "/metrics", "headers": [], "query_string": b"", "app": app}
    sys.setprofile(count)
    try:
        await app(scope, receive, send)
    finally:
        sys.setprofile(None)
    assert size == len(metrics.exposition())
    return steps


async def test_a_scrape_of_a_thousand_projects_is_as_much_work_for_the_loop_as_one_of_none() -> None:
    """All that grows with them is done in a thread. So calls have their turns, however much there is to tell."""
    few, many = Metrics("1", ["m"]), Metrics("1", ["m"])
    for number in range(1000):
        for status in (200, 429):
            many.finished(f"project-{number}", "generateContent", "m", status, 0.1)
        many.weighed(f"project-{number}", "m", {"input_text": 1, "output_text": 1}, 1, 1)
    await scraped(few)  # what is done once is done
    assert len(many.exposition()) > 50 * len(few.exposition())
    assert abs(await scraped(many) - await scraped(few)) < 200, "a thread's answer may take the loop a turn or two more"


async def test_the_loop_goes_on_while_metrics_are_told_and_one_scrape_waits_for_the_other() -> None:
    """However many scrape at once, calls share the processor with one of them."""
    metrics, loop = Metrics("1", []), asyncio.get_running_loop()
    app = control_app(metrics=metrics, ready=lambda: True, admin=NOTHING)
    begun: list[threading.Event] = []

    def look() -> None:
        """Goes on only when the loop says so: would it be on the loop, nobody could."""
        told = threading.Event()
        begun.append(told)
        loop.call_soon_threadsafe(arrived.set)
        assert told.wait(30)

    metrics.look_before(look)
    arrived = asyncio.Event()
    client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://control")
    async with client, asyncio.timeout(60), asyncio.TaskGroup() as group:
        scrapes = [group.create_task(client.get("/metrics")) for _ in range(3)]
        for number in range(3):
            await arrived.wait()
            arrived.clear()
            for _ in range(100):
                await asyncio.sleep(0)
            assert len(begun) == number + 1, "the others wait for it"
            begun[number].set()
    assert [scrape.result().status_code for scrape in scrapes] == [200] * 3


def test_healthy_does_not_mean_ready() -> None:
    ready = [False]
    with running(control_app(metrics=Metrics("1", []), ready=lambda: ready[0], admin=NOTHING)) as url:
        assert httpx2.get(f"{url}/healthz").status_code == 200
        assert httpx2.get(f"{url}/readyz").status_code == 503
        ready[0] = True
        assert httpx2.get(f"{url}/readyz").status_code == 200


def test_there_is_nothing_else() -> None:
    with running(control_app(metrics=Metrics("1", []), ready=lambda: True, admin=NOTHING)) as url:
        for path in ("/v1beta/models", "/", "/admin", "/healthz/"):
            assert httpx2.get(f"{url}{path}").status_code == 404
        assert httpx2.post(f"{url}/metrics").status_code == 405
