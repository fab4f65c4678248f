"""Who sends spans, when and to whom, and what becomes of calls where a collector fails; without one, nobody does."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx2
import pytest

from tests.journeys.many import with_workers
from tests.journeys.test_reload import logged, reload, write
from tests.journeys.traced import PARENT, TRACE, id_of, went_up
from tests.journeys.watching import TEXT, body, until
from tests.redis_servers import RedisServer
from tests.stand import Weighbridge
from tests.telemetry.otlp_receiver import SOON, Receiver, receiving

HASTY = {**SOON, "OTEL_EXPORTER_OTLP_TIMEOUT": "0.2"}


@pytest.fixture(scope="module")
def stand(upstream: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weighbridge]:
    """A server that has no traces when it starts."""
    made = Weighbridge(tmp_path_factory.mktemp("weighbridge"), upstream, environment=HASTY)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def client(stand: Weighbridge) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=stand.base_url, headers={"x-goog-api-key": stand.key()}, timeout=60) as made:
        yield made


def call(client: httpx2.Client, **headers: str) -> str:
    answer = client.post(TEXT + "generateContent", json=body("hi"), headers=headers)
    assert answer.status_code == 200
    return id_of(answer)


def requests(collector: Receiver) -> list[str]:
    return [span.attributes["weighbridge.request_id"] for span in collector.spans if span.kind == "SERVER"]


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


def test_each_worker_sends_its_own_spans_and_leaves_none_behind(
    redis_server: RedisServer, upstream: str, tmp_path: Path, at_end: ExitStack
) -> None:
    """What waits is sent where another collector is named, and where the process ends; by itself, in an hour."""
    one, other = (at_end.enter_context(receiving()) for _ in range(2))
    stand = with_workers(at_end, tmp_path, upstream, redis_server, tracing={"otlp_endpoint": one.base_url})
    stand.environment = {"OTEL_BSP_SCHEDULE_DELAY": "3600000"}
    stand.start()
    key = stand.key()

    def sixteen() -> list[str]:
        """Each on a connection of its own, so that both workers have some."""
        ids = []
        for _ in range(16):
            with httpx2.Client(base_url=stand.base_url, headers={"x-goog-api-key": key}, timeout=60) as client:
                ids.append(call(client))
        return sorted(ids)

    to_one = sixteen()
    write(stand, tracing={"otlp_endpoint": other.base_url})
    reload(stand)
    spans = one.until(lambda spans: len(spans) == 32, "both workers have sent theirs")
    assert sorted(requests(one)) == to_one
    assert len({span.resource["service.instance.id"] for span in spans}) == 2
    assert len({span.span_id for span in spans}) == 32
    to_other = sixteen()
    assert requests(other) == []
    assert stand.stop(signal.SIGTERM) == 0
    assert sorted(requests(other)) == to_other


def test_traces_are_switched_on_moved_and_off_while_the_server_runs(
    stand: Weighbridge, client: httpx2.Client, at_end: ExitStack
) -> None:
    """Calls from then on go to the other collector; what waited for the former one comes to it."""
    one, other = (at_end.enter_context(receiving()) for _ in range(2))
    call(client)
    write(stand, tracing={"otlp_endpoint": one.base_url})
    reload(stand)
    to_one = call(client)
    write(stand, tracing={"otlp_endpoint": f"{other.base_url}/v1/traces"})
    reload(stand)
    to_other = call(client)
    one.request(to_one)
    write(stand, tracing={"otlp_endpoint": ""})
    reload(stand)
    call(client)
    other.request(to_other)
    assert (requests(one), requests(other)) == ([to_one], [to_other])
    until(lambda: len(logged(stand, "configuration_reloaded")) == 3, "the log says so")
    assert {line["changed"] for line in logged(stand, "configuration_reloaded")} == {"tracing.otlp_endpoint"}


def test_a_part_of_calls_is_traced_where_that_is_asked_for(
    stand: Weighbridge, client: httpx2.Client, at_end: ExitStack
) -> None:
    """None with a ratio of 0, but whose caller has begun a trace."""
    collector = at_end.enter_context(receiving())
    write(stand, tracing={"otlp_endpoint": collector.base_url, "sample_ratio": 0})
    reload(stand)
    for _ in range(5):
        call(client)
    collector.request(call(client, traceparent=PARENT))
    assert {span.trace_id for span in collector.spans} == {TRACE}


@pytest.mark.parametrize("how", [503, 401, 302, "hangs", "away"])
def test_no_call_waits_for_a_collector_that_fails(
    upstream: str, tmp_path: Path, at_end: ExitStack, how: str | int
) -> None:
    """It answers errors, sends elsewhere, says nothing, or isn't there: that is said once, and calls go on."""
    collector = at_end.enter_context(receiving(how if isinstance(how, int) else 200))
    url = collector.base_url
    if how == "hangs":
        collector.lets_go.clear()
    elif how == "away":
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    stand = Weighbridge(tmp_path, upstream, {"tracing": {"otlp_endpoint": url}}, environment=HASTY)
    at_end.enter_context(closing(stand))
    stand.start()
    headers = {"x-goog-api-key": stand.key()}
    client = at_end.enter_context(httpx2.Client(base_url=stand.base_url, headers=headers, timeout=60))

    def lost() -> list[dict[str, str]]:
        call(client)
        return logged(stand, "traces_lost")

    until(lost, "the loss is told")
    if how not in ("hangs", "away"):
        asked = len(collector.headers)
        for more in range(1, 3):
            call(client)
            collector.asked(asked + more)
    (said,) = logged(stand, "traces_lost")
    assert said["level"] == "warning"
    assert "calls are not" in said["what"]
    assert said["why"]
    assert not [line for line in stand.log().splitlines() if "opentelemetry" in line or "Traceback" in line]
    if how == 503:
        collector.answers = 200
        collector.request(call(client))
        until(lambda: logged(stand, "traces_arrive_again"), "that it is back is told")
