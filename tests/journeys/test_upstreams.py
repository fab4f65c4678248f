"""Operators see the upstreams of a running server, and take one out by hand: real processes, one database."""

from __future__ import annotations

import json
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from proxy.app import App
from proxy.config.schema import Settings, Storage
from proxy.config.upstreams import Upstream
from proxy.store.database import open_database
from proxy.telemetry.metrics import ATTEMPT_OUTCOMES
from proxy.tenants import disabled_upstreams
from tests.journeys.test_reload import reload, write
from tests.journeys.test_serving import WHOLE, Caller, under_way
from tests.journeys.watching import TEXT, body, until
from tests.scripted import says, scripted
from tests.stand import Weighbridge, emulator, weighbridge


def pooled(folder: Path, first: str, second: str) -> AbstractContextManager[Weighbridge]:
    """With a second upstream, of lower precedence."""
    upstreams = [{"name": "emulator"}, {"name": "second", "base_url": second, "priority": 1}]
    return weighbridge(folder, first, {"upstreams": upstreams})


def asked(stand: Weighbridge, method: str, path: str = "") -> dict[str, dict[str, Any]]:
    """What the admin API answers, by upstream."""
    token = (stand.data_dir / "admin-token").read_text().strip()
    url = f"{stand.admin_url}/admin/v1/upstreams{path}"
    answer = httpx2.request(method, url, headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 200, answer.text
    return {one["name"]: one for one in answer.json()["upstreams"]}


def samples(stand: Weighbridge, name: str) -> list[Sample]:
    families = text_string_to_metric_families(httpx2.get(f"{stand.admin_url}/metrics").text)
    return [sample for family in families for sample in family.samples if sample.name == name]


def available(stand: Weighbridge) -> dict[str, float]:
    return {sample.labels["upstream"]: sample.value for sample in samples(stand, "weighbridge_upstream_available")}


def attempts(stand: Weighbridge) -> dict[str, float]:
    return {sample.labels["outcome"]: sample.value for sample in samples(stand, "weighbridge_attempts_total")}


def changes(stand: Weighbridge) -> list[tuple[str, str]]:
    """What the log says of the upstreams' states."""
    lines = [json.loads(line) for line in stand.log().splitlines() if line.startswith("{")]
    return [(line["event"], line["upstream"]) for line in lines if line["event"].startswith("upstream_")]


def test_one_that_is_disabled_gets_no_more_calls_and_finishes_those_in_flight(tmp_path: Path) -> None:
    """Within 2 s, by another process; over a reload and a restart; until it is enabled."""
    go = threading.Event()

    def answer_when_told(connection: Any) -> None:
        go.wait()
        connection.sendall(WHOLE)

    with (
        scripted(answer_when_told) as first,
        scripted(says(WHOLE)) as second,
        pooled(tmp_path, first.base_url, second.base_url) as stand,
    ):
        caller = Caller(stand)
        in_flight = caller.call()
        under_way(first, 1)
        assert asked(stand, "GET")["emulator"]["in_flight"] == 1
        stand.run("upstreams", "disable", "emulator")
        until(lambda: available(stand) == {"emulator": 0, "second": 1}, "it is disabled")
        assert caller.call().result().status_code == 200
        assert (len(first.received), len(second.received)) == (1, 1)
        go.set()
        assert in_flight.result().status_code == 200
        assert [record.upstream for record in stand.records()] == ["second", "emulator"]

        write(stand, server={"max_body_mb": 50})
        reload(stand)
        assert caller.call().result().status_code == 200
        stand.stop()
        assert "disabled since" in stand.run("upstreams")
        stand.start()
        assert available(stand) == {"emulator": 0, "second": 1}
        assert Caller(stand).call().result().status_code == 200
        assert (len(first.received), len(second.received)) == (1, 3)
        assert asked(stand, "POST", "/emulator/enable")["emulator"]["state"] == "ready"
        assert available(stand) == {"emulator": 1, "second": 1}
        assert Caller(stand).call().result().status_code == 200
        assert len(first.received) == 2
        disabled, enabled = ("upstream_disabled", "emulator"), ("upstream_enabled", "emulator")
        once_each = [disabled, disabled, enabled]
        until(lambda: changes(stand) == once_each, "once when it was, once at the start, once after")


@pytest.mark.anyio
async def test_what_is_disabled_is_known_before_the_doors_open(tmp_path: Path) -> None:
    """No call must slip through until changes are first looked at."""
    disabled_upstreams.disable(open_database(Storage(data_dir=tmp_path)), "a", 5, actor="test")
    upstreams = [Upstream.model_validate({"name": name, "api_key": "key", "api_key_env": "KEY"}) for name in "ab"]
    app = await App.open(Settings(storage=Storage(data_dir=tmp_path), upstreams=upstreams), ledger_broke=pytest.fail)
    exposition = app.metrics.exposition().decode()
    await app.close()
    assert 'weighbridge_upstream_available{upstream="a"} 0.0' in exposition
    assert 'weighbridge_upstream_available{upstream="b"} 1.0' in exposition


def test_each_change_is_one_line_in_the_log_and_the_metric_follows(tmp_path: Path) -> None:
    """Of a credential that is refused call after call, renewed by a reload, and of an upstream that is taken away."""
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text("emulator-key")
    bad.write_text("not-the-emulators-key")
    with emulator() as url, pooled(tmp_path, "http://127.0.0.1:9", url) as stand:
        config, key = stand.folder / "weighbridge.toml", {"x-goog-api-key": stand.key()}

        def call() -> httpx2.Response:
            return httpx2.post(f"{stand.base_url}{TEXT}generateContent", json=body("hi"), headers=key, timeout=30)

        def has(text: str) -> None:
            config.write_text(text)
            reload(stand)

        assert available(stand) == {"emulator": 1, "second": 1}
        assert attempts(stand) == dict.fromkeys(ATTEMPT_OUTCOMES, 0)
        assert changes(stand) == [], "nothing is said of those that are fine"
        head, of_first, of_second = stand._toml().split("[[upstreams]]\n")
        first = f"{head}[[upstreams]]\n{of_first}".replace("http://127.0.0.1:9", url)
        second = f"[[upstreams]]\n{of_second}"
        unkeyed = 'api_key_env = "UPSTREAM_KEY"'
        has(first.replace(unkeyed, f'api_key_file = "{bad}"') + second)
        assert [call().status_code for _ in range(3)] == [200, 200, 200]
        assert available(stand) == {"emulator": 0, "second": 1}
        refused = ("upstream_credential_refused", "emulator")
        until(lambda: changes(stand) == [refused], "it is said once")
        told, other = asked(stand, "GET").values()
        assert (told["state"], other["state"]) == ("out", "ready")
        assert [(outage["model"], outage["why"]) for outage in told["outages"]] == [("*", "credential_refused")]
        assert told["last_error"]["what"].startswith("400 credential_refused: API key not valid.")
        assert other["latency_ms"] > 0
        assert (attempts(stand)["answered"], attempts(stand)["credential_refused"]) == (3, 1)

        has(first.replace(unkeyed, f'api_key_file = "{good}"') + second)
        until(lambda: changes(stand) == [refused, ("upstream_back", "emulator")], "it may be asked again")
        assert available(stand) == {"emulator": 1, "second": 1}
        assert call().status_code == 200
        has(first)
        assert available(stand) == {"emulator": 1}
        assert call().status_code == 200
        assert len(changes(stand)) == 2
        has(first.replace(unkeyed, f'api_key_file = "{bad}"'))
        assert [call().headers["x-weighbridge-refused"] for _ in range(2)] == ["UPSTREAM_CREDENTIAL_REFUSED"] * 2
        until(lambda: changes(stand)[2:] == [refused], "it is said once, also where each call is refused")
        assert "not-the-emulators-key" not in stand.log()
