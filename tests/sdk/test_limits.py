"""The official SDKs against a limit: told to retry, they wait and succeed; else they raise what says which and when."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from google import genai
from google.genai import types
from google.genai.errors import ClientError

from tests.journeys.watching import body, open_leases, until
from tests.sdk.conftest import Way
from tests.sdk.node import run
from tests.sdk.scenarios import SCENARIOS, TEXT
from tests.stand import Weighbridge

GREETING = next(scenario for scenario in SCENARIOS if scenario.name == "text")
SAYS = "Project limited is limited to 1 request at once (concurrency): 1 is taken. Please retry in 1.000s."


@pytest.fixture(scope="module")
def limited(stand: Weighbridge) -> Way:
    """A project whose calls come one at a time."""
    stand.run("project", "create", "limited", "--concurrency", "1")
    return Way(stand.base_url, stand.key("limited"))


@contextmanager
def taken(stand: Weighbridge, way: Way, seconds: float) -> Iterator[None]:
    """Its one place is taken for so long."""
    with ThreadPoolExecutor(1) as thread:
        slow = thread.submit(
            httpx2.post,
            f"{way.base_url}/v1beta/models/{TEXT}:generateContent",
            json=body(f"[[delay={seconds}]]"),
            headers={"x-goog-api-key": way.key},
            timeout=60,
        )
        until(lambda: open_leases(stand.data_dir) == 1, "the place is taken")
        yield
        assert slow.result().status_code == 200


def test_python_told_to_retry_waits_and_succeeds(stand: Weighbridge, limited: Way) -> None:
    http = types.HttpOptions(
        base_url=limited.base_url, retry_options=types.HttpRetryOptions(attempts=8, initial_delay=0.5)
    )
    with taken(stand, limited, 2), genai.Client(api_key=limited.key, http_options=http) as client:
        assert client.models.generate_content(model=TEXT, contents="Hello").text


def test_python_raises_its_own_error(stand: Weighbridge, limited: Way) -> None:
    """With the limit, its value and the wait in its message, and Google's details behind it."""
    http = types.HttpOptions(base_url=limited.base_url)
    with (
        taken(stand, limited, 1),
        genai.Client(api_key=limited.key, http_options=http) as client,
        pytest.raises(ClientError) as raised,
    ):
        client.models.generate_content(model=TEXT, contents="Hello")
    assert (raised.value.code, raised.value.status) == (429, "RESOURCE_EXHAUSTED")
    assert raised.value.message == SAYS
    quota = raised.value.details["error"]["details"][1]["violations"][0]
    assert (quota["quotaId"], quota["quotaValue"]) == ("ConcurrentRequestsPerProject", "1")


def javascript(way: Way, **http: Any) -> dict[str, Any]:
    options = {"apiKey": way.key, "httpOptions": {"baseUrl": way.base_url, **http}}
    came: dict[str, Any] = run("play.mjs", {"options": options, "scenarios": [GREETING.as_json()]}, {})[GREETING.name][
        0
    ]
    return came


def test_javascript_told_to_retry_waits_and_succeeds(stand: Weighbridge, limited: Way) -> None:
    with taken(stand, limited, 4):
        assert GREETING.shows in str(javascript(limited, retryOptions={"attempts": 8, "initialDelay": 0.5}))


def test_javascript_throws_its_own_error(stand: Weighbridge, limited: Way) -> None:
    with taken(stand, limited, 5):
        thrown = javascript(limited)
    assert (thrown["raised"], thrown["status"]) == ("ApiError", 429)
    assert json.loads(thrown["message"])["error"]["message"] == SAYS
