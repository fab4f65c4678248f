"""Who sends spans, when and to whom, and what becomes of calls where a collector fails; without one, nobody does."""

from __future__ import annotations

import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from tests.journeys.many import with_workers
from tests.journeys.test_reload import logged, reload, write
from tests.journeys.traced import PARENT, TRACE, id_of, traced, went_up
from tests.journeys.watching import TEXT, body, until
from tests.redis_servers import RedisServer
from tests.stand import Weighbridge, weighbridge
from tests.telemetry.otlp_receiver import SOON, Receiver, receiving


def test_without_traces_nothing_of_opentelemetry_is_imported_and_nothing_of_a_trace_changed(
    upstream: str, tmp_path: Path, at_end: ExitStack
) -> None:
    """Of a server that has served calls, failed, relayed, and was asked for pictures. A caller's context crosses."""
    stand = Weighbridge(tmp_path, upstream, environment={"MODULES_LEFT": str(tmp_path / "modules")})
    at_end.callback(stand.close)
    stand.process = stand.popen("tests.telemetry.modules_left", "serve")
    stand.started()
    headers = {"x-goog-api-key": stand.key(), "traceparent": PARENT, "tracestate": "vendor=a1"}
    with httpx2.Client(base_url=stand.base_url, headers=headers, timeout=60) as client:
        assert client.post(TEXT + "generateContent", json=body("hi")).status_code == 200
        up = went_up(stand)
        assert (up["traceparent"], up["tracestate"]) == (PARENT, "vendor=a1")
        assert client.post(TEXT + "generateContent", json=body("[[status=500]]")).status_code == 500
        assert client.post("/v1/images/generations", json={"prompt": "a lorry"}).status_code == 200
    assert stand.stop() == 0
    modules = (tmp_path / "modules").read_text().split()
    assert "proxy.gateway.relay" in modules
    assert [name for name in modules if "opentelemetry" in name or ("trac" in name and name.startswith("proxy"))] == [
        "proxy.config.tracing"
    ]


def test_each_worker_sends_its_own_spans(
    redis_server: RedisServer, upstream: str, tmp_path: Path, at_end: ExitStack
) -> None:
    """And what waits when they end is sent before they have."""
    collector = at_end.enter_context(receiving())
    tracing = {"otlp_endpoint": collector.base_url}
    stand = with_workers(at_end, tmp_path, upstream, redis_server, tracing=tracing)  # which sends every five seconds
    stand.start()
    headers = {"x-goog-api-key": stand.key()}
    ids = []

    def call() -> bool:
        for _ in range(4):
            answer = httpx2.post(stand.base_url + TEXT + "generateContent", json=body("hi"), headers=headers)
            assert answer.status_code == 200
            ids.append(id_of(answer))
        return len(ids) >= 16

    until(call, "sixteen calls")
    assert stand.stop(signal.SIGTERM) == 0
    served = {span.attributes["weighbridge.request_id"]: span for span in collector.spans if span.kind == "SERVER"}
    assert sorted(served) == sorted(ids)
    assert len({span.resource["service.instance.id"] for span in served.values()}) == 2
    assert len({span.span_id for span in collector.spans}) == 2 * len(ids)


@pytest.mark.parametrize("how", [503, 401, 302, "hangs", "away"])
def test_no_call_and_no_end_waits_for_a_collector_that_fails(
    upstream: str, tmp_path: Path, at_end: ExitStack, how: str | int
) -> None:
    """It answers errors, sends elsewhere, says nothing, or isn't there: that is said once, and calls go on."""
    collector = at_end.enter_context(receiving(how if isinstance(how, int) else 200))
    if how == "hangs":
        collector.lets_go.clear()
    stand = traced(tmp_path, upstream, collector)
    if how == "away":
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        stand.settings = {"tracing": {"otlp_endpoint": url}}
    stand.environment = {**SOON, "OTEL_EXPORTER_OTLP_TIMEOUT": "0.2"}
    at_end.callback(stand.close)
    stand.start()
    headers = {"x-goog-api-key": stand.key()}
    with httpx2.Client(base_url=stand.base_url, headers=headers, timeout=60) as client:

        def lost() -> bool:
            assert client.post(TEXT + "generateContent", json=body("hi")).status_code == 200
            return bool(logged(stand, "traces_lost"))

        until(lost, "the loss is told")
        for _ in range(4):
            assert client.post(TEXT + "generateContent", json=body("hi")).status_code == 200
    assert stand.stop() == 0
    said = logged(stand, "traces_lost")
    assert len(said) <= 2, "once; and once more where the process ends before all was tried"
    assert said[0]["level"] == "warning"
    assert "calls are not" in said[0]["what"]
    assert said[0]["why"]
    assert len(stand.records()) >= 5
    assert not [line for line in stand.log().splitlines() if "opentelemetry" in line or "Traceback" in line]


def test_a_collector_that_is_back_is_told_of(upstream: str, tmp_path: Path, at_end: ExitStack) -> None:
    collector = at_end.enter_context(receiving(500))
    stand = traced(tmp_path, upstream, collector)
    at_end.callback(stand.close)
    stand.start()
    headers = {"x-goog-api-key": stand.key()}
    with httpx2.Client(base_url=stand.base_url, headers=headers, timeout=60) as client:
        client.post(TEXT + "generateContent", json=body("hi"))
        until(lambda: logged(stand, "traces_lost"), "the loss is told")
        collector.answers = 200
        collector.request(id_of(client.post(TEXT + "generateContent", json=body("hi"))))
        (back,) = until(lambda: logged(stand, "traces_arrive_again"), "that it is back is told")
    assert back["lost"] == 2


def test_traces_are_switched_on_moved_and_off_while_the_server_runs(
    upstream: str, tmp_path: Path, at_end: ExitStack
) -> None:
    """Calls from then on go to the other collector; what waited for the former one comes to it."""
    one, other = (at_end.enter_context(receiving()) for _ in range(2))
    stand = at_end.enter_context(weighbridge(tmp_path, upstream))
    headers = {"x-goog-api-key": stand.key()}
    client = at_end.enter_context(httpx2.Client(base_url=stand.base_url, headers=headers, timeout=60))

    def call() -> str:
        return id_of(client.post(TEXT + "generateContent", json=body("hi")))

    def names(collector: Receiver) -> list[str]:
        return [span.attributes["weighbridge.request_id"] for span in collector.spans if span.kind == "SERVER"]

    call()
    write(stand, tracing={"otlp_endpoint": one.base_url})
    reload(stand)
    to_one = call()
    write(stand, tracing={"otlp_endpoint": f"{other.base_url}/v1/traces"})
    reload(stand)
    to_other = call()
    one.request(to_one)
    write(stand, tracing={"otlp_endpoint": ""})
    reload(stand)
    call()
    other.request(to_other)
    assert (names(one), names(other)) == ([to_one], [to_other])
    changed = [line["changed"] for line in logged(stand, "configuration_reloaded")]
    assert changed == ["tracing.otlp_endpoint"] * 3


def test_a_part_of_calls_is_traced_where_that_is_asked_for(upstream: str, tmp_path: Path, at_end: ExitStack) -> None:
    """None with a ratio of 0, but whose caller has begun a trace."""
    collector = at_end.enter_context(receiving())
    stand = traced(tmp_path, upstream, collector)
    stand.settings = {"tracing": {"otlp_endpoint": collector.base_url, "sample_ratio": 0}}
    at_end.callback(stand.close)
    stand.start()
    headers = {"x-goog-api-key": stand.key()}
    with httpx2.Client(base_url=stand.base_url, headers=headers, timeout=60) as client:
        for _ in range(5):
            client.post(TEXT + "generateContent", json=body("hi"))
        answer = client.post(TEXT + "generateContent", json=body("hi"), headers={"traceparent": PARENT})
    collector.request(id_of(answer))
    assert {span.trace_id for span in collector.spans} == {TRACE}
