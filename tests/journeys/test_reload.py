"""A running server takes another configuration: no call is dropped, and a bad one changes nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2

from tests.certificates import make_certificate
from tests.journeys.test_serving import ROOT, WHOLE, Caller, ended, tell, under_way
from tests.journeys.watching import TEXT, body, in_flight, until
from tests.scripted import scripted
from tests.stand import Weighbridge, emulator, weighbridge

RELOADS = 20
AT_ONCE = 4


def counted(stand: Weighbridge, outcome: str) -> int:
    """How often it says that it reloaded with this outcome."""
    metrics = httpx2.get(f"{stand.admin_url}/metrics").text
    found = re.search(rf'^weighbridge_config_reloads_total{{outcome="{outcome}"}} (\d+)', metrics, re.MULTILINE)
    assert found is not None
    return int(found[1])


def write(stand: Weighbridge, **settings: dict[str, object]) -> None:
    """Changes settings in its file, and puts it in place in one step."""
    stand.settings = {**stand.settings, **settings}
    fresh = stand.folder / "fresh.toml"
    fresh.write_text(stand._toml())
    fresh.replace(stand.folder / "weighbridge.toml")


def reload(stand: Weighbridge, outcome: str = "applied") -> None:
    """Tells it to reload, and waits until it has."""
    before = counted(stand, outcome)
    tell(stand, signal.SIGHUP)
    until(lambda: counted(stand, outcome) > before, f"the configuration is {outcome}")


def logged(stand: Weighbridge, event: str) -> list[dict[str, str]]:
    lines = [json.loads(line) for line in stand.log().splitlines()]
    return [line for line in lines if line["event"] == event]


def told(stand: Weighbridge, event: str, lines: int = 1) -> list[dict[str, str]]:
    """The same, as soon as there are so many: a thread writes them."""
    return until(lambda: found if len(found := logged(stand, event)) >= lines else [], f"{lines} lines of {event}")


def test_reloads_under_load_fail_no_call(upstream: str, tmp_path: Path) -> None:
    """The upstream moves, its key changes, timeouts and limits change: 20 times, in the midst of calls."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("emulator-key")
    second.write_text("another-key")
    over, statuses, failures = threading.Event(), Counter[int](), []
    with emulator(keys={"another-key"}) as other, weighbridge(tmp_path, upstream) as stand:
        headers = {"x-goog-api-key": stand.key()}

        def call(number: int) -> None:
            with httpx2.Client(base_url=stand.base_url, headers=headers, timeout=60) as client:
                while not over.is_set():
                    verb = ("generateContent", "streamGenerateContent?alt=sse")[number % 2]
                    answer = client.post(TEXT + verb, json=body("[[delay=0.02]] [[chunks=4]] [[chunk-delay=0.03]]"))
                    statuses[answer.status_code] += 1
                    if answer.status_code != 200 or "STOP" not in answer.text:
                        failures.append(answer.text)

        with ThreadPoolExecutor(AT_ONCE) as callers:
            calling = [callers.submit(call, number) for number in range(AT_ONCE)]
            for number in range(RELOADS):
                calls = statuses.total()
                until(lambda least=calls + AT_ONCE: statuses.total() >= least, "calls go on")  # type: ignore[misc]
                stand.upstream_url = (upstream, other)[number % 2]
                write(
                    stand,
                    upstreams={"api_key_file": str((first, second)[number % 2])},
                    server={"max_body_mb": 10 + number},
                    gateway={"first_byte_timeout_s": 60 + number % 3, "drain_after_disconnect_s": 30 + number},
                )
                config = stand.folder / "weighbridge.toml"
                config.write_text(config.read_text().replace('api_key_env = "UPSTREAM_KEY"\n', ""))
                reload(stand)
            over.set()
            for each in calling:
                each.result()
        assert failures == []
        assert set(statuses) == {200}
        assert {record.outcome for record in stand.records()} == {"ok"}
        assert len(stand.records()) == statuses.total()
        assert httpx2.get(f"{other}/emulator/account").json()["entries"]
        assert in_flight(stand.admin_url) == 0


def test_a_drain_reaches_the_calls_of_a_former_configuration(tmp_path: Path) -> None:
    go = threading.Event()

    def answer_when_told(connection: Any) -> None:
        go.wait()
        connection.sendall(WHOLE)

    with (
        scripted(answer_when_told) as former,
        scripted(answer_when_told) as latter,
        weighbridge(tmp_path, former.base_url) as stand,
    ):
        caller = Caller(stand)
        calling = [caller.call()]
        under_way(former, 1)
        stand.upstream_url = latter.base_url
        write(stand)
        reload(stand)
        calling.append(caller.call())
        under_way(latter, 1)
        assert in_flight(stand.admin_url) == 2
        tell(stand, signal.SIGTERM)
        until(lambda: logged(stand, "closing"), "it waits for calls")
        assert logged(stand, "closing")[0]["in_flight"] == 2
        go.set()
        assert [call.result().status_code for call in calling] == [200, 200]
        assert ended(stand) == 0
        assert [record.outcome for record in stand.records()] == ["ok", "ok"]


def test_the_connections_to_a_former_upstream_end_with_its_last_call(tmp_path: Path) -> None:
    """Those of an upstream that stays the same are kept."""
    go, connections = threading.Event(), []

    def answer_when_told(connection: Any) -> None:
        connections.append(connection)
        go.wait()
        connection.sendall(WHOLE)

    with scripted(answer_when_told) as former, weighbridge(tmp_path, former.base_url) as stand:
        caller = Caller(stand)
        call = caller.call()
        under_way(former, 1)
        write(stand, server={"max_body_mb": 50})
        reload(stand)
        go.set()
        assert call.result().status_code == 200
        assert caller.call().result().status_code == 200
        assert connections[0] is connections[1], "the upstream is the same, and so is its connection"
        stand.upstream_url = "http://127.0.0.1:9"
        write(stand)
        reload(stand)
        # By itself, a connection that is kept ends after thirty seconds.
        until(lambda: connections[0].fileno() == -1, "the connection is closed", deadline_s=10)


def test_ctrl_c_says_at_once_how_many_calls_it_waits_for(tmp_path: Path) -> None:
    with scripted() as script, weighbridge(tmp_path, script.base_url) as stand:
        Caller(stand).call()
        under_way(script, 1)
        tell(stand, signal.SIGINT)
        (said,) = until(lambda: logged(stand, "closing"), "it says so")
        assert (said["in_flight"], said["seconds"]) == (1, 5)
        tell(stand, signal.SIGINT)
        assert ended(stand) == 0
        assert len(logged(stand, "closing")) == 1


def test_what_may_change_is_in_force_for_the_next_call(upstream: str, tmp_path: Path) -> None:
    page = {"origin": "https://app.example.com"}
    west = {"limits": {"timezone": "Etc/GMT+12"}}  # 26 hours behind Kiritimati: never the same day
    with weighbridge(tmp_path, upstream, west) as stand:
        headers = {"x-goog-api-key": stand.key()}

        def call(model: str = "gemini-3.8-flash", prompt: str = "hi", **also: str) -> httpx2.Response:
            url = f"{stand.base_url}/v1beta/models/{model}:generateContent"
            return httpx2.post(url, json=body(prompt), headers=headers | also, timeout=30)

        large = "x" * (3 << 20)
        assert call(prompt=large, **page).headers["access-control-allow-origin"] == "*"
        write(
            stand,
            server={"max_body_mb": 2},
            limits={"timezone": "Pacific/Kiritimati"},
            gateway={"cors_origins": "https://other.example.com", "unpriced_models": "refuse"},
        )
        config = stand.folder / "weighbridge.toml"
        text = config.read_text().replace('"https://other.example.com"', '["https://other.example.com"]')
        config.write_text(text + '[[prices]]\nmodel = "gemini-brand-new"\ninput_text = 1\n')
        reload(stand)
        assert call(prompt=large).headers["x-weighbridge-refused"] == "REQUEST_TOO_LARGE"
        assert call("gemini-nobodys").headers["x-weighbridge-refused"] == "MODEL_UNPRICED"
        assert "access-control-allow-origin" not in call(**page).headers
        assert call("gemini-brand-new").status_code == 404
        assert 'model="gemini-brand-new"' in httpx2.get(f"{stand.admin_url}/metrics").text
        records = stand.records()
        assert records[-1].period > records[0].period


def test_a_broken_file_changes_nothing_and_is_told_as_config_check_tells_it(upstream: str, tmp_path: Path) -> None:
    with weighbridge(tmp_path, upstream) as stand:
        caller, config = Caller(stand), stand.folder / "weighbridge.toml"
        good = config.read_text()
        config.write_text("broken [")
        reload(stand, "rejected")
        config.write_text(good.replace("UPSTREAM_KEY", "GONE") + "max_conections = 3\n")
        reload(stand, "rejected")
        assert caller.call().result().status_code == 200
        check = [sys.executable, "-m", "proxy", "config", "check", "--json", "--config", str(config)]
        done = subprocess.run(check, capture_output=True, text=True, env=stand._env())
        problems = json.loads(done.stdout)["problems"]
        assert len(problems) == 2
        assert [line["why"] for line in told(stand, "configuration_rejected", 3)[1:]] == problems
        config.write_text(good)
        reload(stand)
        assert told(stand, "configuration_reloaded")[-1]["changed"] == "no setting"


def test_a_rotated_key_file_needs_no_word_to_the_server(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("old-key")
    with emulator(keys={"new-key"}) as url, weighbridge(tmp_path, url) as stand:
        caller, config = Caller(stand), stand.folder / "weighbridge.toml"
        config.write_text(config.read_text().replace('api_key_env = "UPSTREAM_KEY"', f'api_key_file = "{secret}"'))
        until(lambda: counted(stand, "applied") == 1, "the file is followed")
        assert caller.call().result().status_code == 502
        secret.write_text("new-key")
        until(lambda: counted(stand, "applied") == 2, "the secret is followed")
        assert caller.call().result().status_code == 200
        assert told(stand, "configuration_reloaded", 2)[-1]["changed"] == "upstreams.0.api_key"
        assert "new-key" not in stand.log()


def test_a_renewed_certificate_is_shown_to_the_next_connection(upstream: str, tmp_path: Path) -> None:
    old = make_certificate(tmp_path, "127.0.0.1").path
    shown = old.rename(tmp_path / "shown.pem")
    tls = {"tls_cert": str(shown), "tls_key": str(shown)}
    with weighbridge(tmp_path, upstream, {"server": tls}) as stand:
        before = ssl.create_default_context(cafile=shown)
        with httpx2.Client(base_url=stand.base_url, verify=before) as client:
            assert client.get("/healthz").status_code == 200
            renewed = make_certificate(tmp_path, "127.0.0.1").path
            renewed.replace(shown)
            until(lambda: counted(stand, "applied") == 1, "the certificate is followed")
            assert client.get("/healthz").status_code == 200, "a connection that stands is kept"
        after = ssl.create_default_context(cafile=shown)
        assert httpx2.get(f"{stand.base_url}/healthz", verify=after).status_code == 200
        shown.write_text("half of it")
        reload(stand, "rejected")
        assert httpx2.get(f"{stand.base_url}/healthz", verify=after).status_code == 200


def test_without_a_file_a_hang_up_ends_nothing(tmp_path: Path) -> None:
    clean = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "GEMINI_API_KEY": "k"}
    clean |= {"WEIGHBRIDGE_SERVER__PORT": "0", "WEIGHBRIDGE_SERVER__ADMIN_PORT": "0"}
    command = [sys.executable, "-m", "proxy", "serve"]
    with (
        subprocess.Popen(command, cwd=tmp_path, env=clean, stdout=-1, stderr=-1, text=True) as process,
        ExitStack() as at_end,
    ):
        at_end.callback(process.kill)
        assert process.stdout is not None
        assert process.stderr is not None
        assert "serves at" in process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        said = json.loads(process.stderr.readline())
        assert (said["event"], said["changed"]) == ("configuration_reloaded", "no setting")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_other_bounds_of_connections_hold_for_those_that_come_from_then_on(upstream: str, tmp_path: Path) -> None:
    with weighbridge(tmp_path, upstream) as stand, httpx2.Client(base_url=stand.base_url) as kept:
        assert kept.get("/healthz").status_code == 200
        write(stand, server={"max_connections": 1})
        reload(stand)
        turned_away = httpx2.get(f"{stand.base_url}/healthz")
        assert (turned_away.status_code, turned_away.headers["x-weighbridge-refused"]) == (503, "TOO_MANY_CONNECTIONS")
        assert 'reason="TOO_MANY_CONNECTIONS"} 1.0' in httpx2.get(f"{stand.admin_url}/metrics").text
        assert told(stand, "connections_refused")[0]["over"] == "max_connections"
        assert kept.get("/healthz").status_code == 200, "it goes on"
        write(stand, server={"max_connections": 10, "max_connections_per_address": 1})
        reload(stand)
        assert httpx2.get(f"{stand.base_url}/healthz").status_code == 503
        ours = {"trusted_proxies": ["127.0.0.1"], "keep_alive_requests": 3}
        write(stand, server={"max_connections": 10, "max_connections_per_address": 1, **ours})
        reload(stand)
        with httpx2.Client(base_url=stand.base_url) as other:
            lasts = ["connection" in other.get("/healthz").headers for _ in range(6)]
        assert lasts == [False, False, True] * 2
