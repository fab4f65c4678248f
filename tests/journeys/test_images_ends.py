"""OpenAI-shaped images that come otherwise than asked for: a limit is reached, a model is gone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from proxy.config.limits import parse_all
from proxy.store.database import open_database
from proxy.tenants import projects
from tests.journeys.watching import until
from tests.stand import Weighbridge, emulator, weighbridge

MODEL = "gemini-nano-banana-2.1"
MODELS = [{"match": "gpt-image-1", "use": "gemini-2.5-flash-image"}]


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weighbridge]:
    with emulator() as url, weighbridge(tmp_path_factory.mktemp("ends"), url, {"models": MODELS}) as running:
        yield running


def headers(stand: Weighbridge, project: str, *limits: str) -> dict[str, str]:
    now = time.time_ns() // 1000
    projects.create(open_database(stand.storage), project, now, actor="test", limits=parse_all(limits))
    return {"authorization": f"Bearer {stand.key(project)}"}


def test_an_alias_of_a_model_that_was_shut_down_draws_with_its_successor(stand: Weighbridge) -> None:
    body = {"prompt": "A lorry", "model": "gpt-image-1"}
    answer = httpx2.post(
        f"{stand.base_url}/v1/images/generations", headers=headers(stand, "alias"), json=body, timeout=30
    )
    assert answer.status_code == 200
    assert "gemini-2.5-flash-image was shut down on 2026-10-02" in answer.headers["x-weighbridge-hint"]
    assert stand.records()[-1].model == MODEL


def test_a_picture_that_a_limit_refused_breaks_nothing_off(stand: Weighbridge) -> None:
    """It is counted and logged as the refusal that it is, though another picture has gone down already."""
    body = {"prompt": "A lorry", "model": MODEL, "n": 2, "stream": True}
    key = headers(stand, "limited", "rpm=1")
    answer = httpx2.post(f"{stand.base_url}/v1/images/generations", headers=key, json=body, timeout=30)
    assert "event: error" in answer.text
    told = until(lambda: told_of(stand, "limited"), "it is logged")
    assert [(line["status"], line["outcome"], line["refused"]) for line in told] == [(200, "ok", "RATE_LIMITED")]


def told_of(stand: Weighbridge, project: str) -> list[dict[str, Any]]:
    lines = [
        json.loads(line) for line in stand.log().splitlines(keepends=True) if line[:1] == "{" and line[-1:] == "\n"
    ]
    return [line for line in lines if line.get("project") == project and line["event"] == "call"]
