"""`weighbridge serve` as a process: how it starts, how it ends, and what it says when it can't."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import httpx2
import pytest
from google import genai
from google.genai.types import HttpOptions
from prometheus_client.parser import text_string_to_metric_families

from proxy.billing.records import to_json, to_usd
from tests.certificates import make_certificate
from tests.journeys.watching import PICTURE, TEXT, body, connect, open_leases, refuses, until
from tests.redis_servers import free_port
from tests.scripted import Scripted, says, scripted
from tests.stand import Weighbridge, weighbridge

ROOT = Path(__file__).parents[2]
AT_ONCE = 6
ANSWER = (
    b'{"candidates":[{"content":{"parts":[{"text":"hello"}]},"finishReason":"STOP"}],"usageMetadata":'
    b'{"promptTokenCount":3,"candidatesTokenCount":5,"totalTokenCount":8},"modelVersion":"gemini-3.8-flash"}'
)
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)
VERBS = ("generateContent", "streamGenerateContent?alt=sse", "streamGenerateContent")


class Caller:
    """Calls at once, each in a thread."""

    def __init__(self, stand: Weighbridge) -> None:
        self._stand = stand
        self._headers = {"x-goog-api-key": stand.key()}
        self._threads = ThreadPoolExecutor(AT_ONCE)

    def call(self, verb: str = "generateContent") -> Future[httpx2.Response]:
        url = f"{self._stand.base_url}{TEXT}{verb}"
        return self._threads.submit(lambda: httpx2.post(url, json=body("hi"), headers=self._headers, timeout=60))


def under_way(script: Scripted, count: int) -> None:
    until(lambda: len(script.received) == count, f"{count} calls reach the upstream")


def ended(stand: Weighbridge) -> int:
    """Waits for the process that was told to end."""
    assert stand.process is not None
    with stand.process as process:
        return process.wait(60)


def tell(stand: Weighbridge, how: signal.Signals) -> None:
    assert stand.process is not None
    stand.process.send_signal(how)


def left_in_order(stand: Weighbridge, records: int) -> None:
    """So many records and no lease stand, and the next start adds nothing to them."""
    assert open_leases(stand.data_dir) == 0
    before = stand.records()
    assert len(before) == records
    stand.start()
    assert stand.stop() == 0
    assert stand.records() == before


def test_sigterm_under_load_fails_no_call_of_a_client_that_heeds_readiness(upstream: str, tmp_path: Path) -> None:
    with weighbridge(tmp_path, upstream, {"server": {"lame_duck_seconds": 2}}) as stand:
        headers, statuses = {"x-goog-api-key": stand.key()}, Counter[int]()

        def caller(number: int) -> None:
            with httpx2.Client(base_url=stand.base_url, headers=headers, timeout=60) as client:
                while client.get("/readyz").status_code == 200:
                    asked = body(f"[[delay={number * 0.05}]] [[chunks=3]]")
                    answer = client.post(TEXT + VERBS[number % 3], json=asked)
                    assert "STOP" in answer.text
                    statuses[answer.status_code] += 1

        with ThreadPoolExecutor(AT_ONCE) as callers:
            calling = [callers.submit(caller, number) for number in range(AT_ONCE)]
            until(lambda: statuses.total() > 50, "the load is on")
            tell(stand, signal.SIGTERM)
            for door in (stand.base_url, stand.admin_url):
                until(lambda at=door: httpx2.get(f"{at}/readyz").status_code == 503, f"{door} is not ready")  # type: ignore[misc]
            for each in calling:
                each.result()
        assert ended(stand) == 0
        assert set(statuses) == {200}
        assert {record.outcome for record in stand.records()} == {"ok"}
        left_in_order(stand, statuses.total())


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_calls_in_flight_finish_whole_while_the_door_is_closed_to_new_ones(tmp_path: Path, how: signal.Signals) -> None:
    go, connections = threading.Event(), set()

    def answer_when_told(connection: Any) -> None:
        connections.add(connection.getpeername())
        go.wait()
        connection.sendall(WHOLE)

    with scripted(answer_when_told) as script, weighbridge(tmp_path, script.base_url) as stand:
        caller = Caller(stand)
        with connect(stand.base_url) as idle:
            calling = [caller.call(), caller.call()]
            under_way(script, 2)
            tell(stand, how)
            assert idle.recv(1) == b"", "a connection without a call is closed"
        until(lambda: refuses(stand.base_url), "the gateway door is closed")
        assert httpx2.get(f"{stand.admin_url}/readyz").status_code == 503
        go.set()
        for call in calling:
            assert (call.result().status_code, call.result().content) == (200, ANSWER)
        assert ended(stand) == 0
        assert [record.outcome for record in stand.records()] == ["ok", "ok"]
        left_in_order(stand, 2)


def test_calls_that_take_longer_than_the_drain_are_broken_off_and_written_unsettled(tmp_path: Path) -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n" + ANSWER[:50]
    settings = {"server": {"drain_seconds": 0.5}}
    with scripted(says(half)) as script, weighbridge(tmp_path, script.base_url, settings) as stand:
        caller = Caller(stand)
        calling = [caller.call(verb) for verb in VERBS]
        under_way(script, 3)
        assert stand.stop(signal.SIGTERM) == 0
        for call in calling:
            assert isinstance(call.exception(), httpx2.TransportError)
        assert '"calls":3,"what":"they took longer' in stand.log()
        unsettled = [record for record in stand.records() if record.outcome == "unsettled"]
        assert [(record.estimated, bool(record.cost_usd)) for record in unsettled] == [(True, True)] * 3
        left_in_order(stand, 3)


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    with scripted() as script, weighbridge(tmp_path, script.base_url) as stand:
        call = Caller(stand).call()
        under_way(script, 1)
        tell(stand, signal.SIGINT)
        until(lambda: refuses(stand.base_url), "the gateway door is closed")
        tell(stand, signal.SIGINT)
        assert ended(stand) == 0
        assert isinstance(call.exception(), httpx2.TransportError)
        assert "timeout graceful shutdown exceeded" not in stand.log()
        assert [record.outcome for record in stand.records()] == ["unsettled"]
        assert open_leases(stand.data_dir) == 0


def test_ctrl_c_does_not_wait_for_a_drain_that_sigterm_began(tmp_path: Path) -> None:
    """It would take 20 minutes."""
    with scripted() as script, weighbridge(tmp_path, script.base_url) as stand:
        Caller(stand).call()
        under_way(script, 1)
        tell(stand, signal.SIGTERM)
        until(lambda: refuses(stand.base_url), "the gateway door is closed")
        assert stand.stop(signal.SIGINT) == 0
        assert open_leases(stand.data_dir) == 0


def test_the_bill_can_be_read_while_the_server_writes_it_and_metrics_say_the_same(
    stand: Weighbridge, upstream: str
) -> None:
    """Of a mix of calls: pictures, streams, Google's errors, one without usage, a free one, a refused one."""
    project = "metered"
    mix = [
        (PICTURE, "[[images=2]]"),
        (TEXT + VERBS[0], "[[cached=50]] [[search=2]]"),
        (TEXT + VERBS[1], "[[thoughts=9]]"),
        (TEXT + VERBS[2], "[[chunks=4]]"),
        (TEXT + VERBS[0], "[[status=429]]"),
        (TEXT + VERBS[0], "[[usage=none]]"),
        (TEXT + "countTokens", "how many"),
        (TEXT + "inventContent", ""),
    ]
    headers = {"x-goog-api-key": stand.key(project)}
    answers = [httpx2.post(stand.base_url + path, json=body(asked), headers=headers) for path, asked in mix]
    assert Counter(answer.status_code for answer in answers) == {200: 6, 429: 1, 404: 1}
    records = [record for record in stand.records() if record.project == project]
    assert len(records) == 6
    config = ["--config", str(stand.folder / "weighbridge.toml")]

    def printed(*arguments: str) -> str:
        command = [sys.executable, "-m", "proxy", "usage", *arguments, *config]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    exported = [json.loads(line) for line in printed("export").splitlines()]
    assert [line for line in exported if line["project"] == project] == [to_json(record) for record in records]
    report = json.loads(printed("report", "--by", "project", "--json"))
    (bill,) = [row for row in report["rows"] if row["project"] == project]
    cost = sum(record.cost_usd or 0 for record in records)
    assert (bill["calls"], bill["images"], bill["cost_usd"]) == (6, 2, to_usd(cost))

    families = text_string_to_metric_families(httpx2.get(f"{stand.admin_url}/metrics").text)
    samples = [sample for family in families for sample in family.samples if sample.labels.get("project") == project]

    def counted(name: str, by: str) -> dict[str, float]:
        sums: defaultdict[str, float] = defaultdict(float)
        for sample in samples:
            if sample.name == f"weighbridge_{name}_total":
                sums[sample.labels[by]] += sample.value
        return dict(sums)

    reported = [record for record in records if record.usage is not None]
    prompt = sum(record.prompt_token_count or 0 for record in reported)
    tokens = counted("tokens", by="direction")
    assert counted("requests", by="status") == {"200": 6, "429": 1}
    assert sum(counted("images", by="model").values()) == 2
    assert sum(counted("cost_usd", by="model").values()) == pytest.approx(cost / 1e9)
    assert tokens["input"] + tokens["cached"] == prompt
    assert tokens["output"] == sum(record.total_token_count or 0 for record in reported) - prompt


def test_an_upstream_gets_no_more_calls_at_once_than_it_may(tmp_path: Path) -> None:
    go, connections = threading.Event(), set()

    def answer_when_told(connection: Any) -> None:
        connections.add(connection.getpeername())
        go.wait()
        connection.sendall(WHOLE)

    one = {"upstreams": {"max_connections": 1}}
    with scripted(answer_when_told) as script, weighbridge(tmp_path, script.base_url, one) as stand:
        caller = Caller(stand)
        calling = [caller.call() for _ in range(3)]
        until(lambda: open_leases(stand.data_dir) == 3, "all are about to go up")
        go.set()
        assert [call.result().status_code for call in calling] == [200, 200, 200]
        assert len(connections) == 1


def test_it_takes_as_many_files_as_it_may_have_not_as_a_shell_gives(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with weighbridge(tmp_path, "http://127.0.0.1:1") as running:
            assert running.process is not None
            assert resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(params=["a full disk", "a pipe that nobody reads"])
def useless_output(request: pytest.FixtureRequest) -> Iterator[IO[bytes]]:
    if request.param == "a full disk":
        with Path("/dev/full").open("wb") as full:
            yield full
        return
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "wb") as pipe:
        yield pipe


def test_it_serves_where_what_it_says_at_start_cannot_be_written(useless_output: IO[bytes], tmp_path: Path) -> None:
    """And ends as well as ever."""
    url = f"http://127.0.0.1:{(port := free_port())}/readyz"
    stand = Weighbridge(tmp_path, "http://127.0.0.1:9", {"server": {"port": port}})
    stand.process = process = stand.popen("proxy", "serve", stdout=useless_output)

    def ready() -> bool:
        assert process.poll() is None, f"it ended with {process.returncode}"
        try:
            return httpx2.get(url).status_code == 200
        except httpx2.ConnectError:
            return False

    try:
        until(ready, "it serves")
        assert stand.stop(signal.SIGTERM) == 0
    finally:
        stand.close()


def test_a_second_server_on_the_same_folder_is_refused_and_the_first_serves_on(stand: Weighbridge) -> None:
    assert stand.process is not None
    sentence = refused_start("--config", str(stand.folder / "weighbridge.toml"), UPSTREAM_KEY="k")
    assert f"process {stand.process.pid}: a server already runs on this data_dir" in sentence
    assert "set storage.data_dir to another folder" in sentence
    answer = httpx2.post(
        f"{stand.base_url}{TEXT}generateContent", json=body("hi"), headers={"x-goog-api-key": stand.key()}
    )
    assert answer.status_code == 200


def test_the_control_door_has_the_bounds_of_the_gateway_door(stand: Weighbridge) -> None:
    """Of a request's head, and of the time that it may take."""
    assert httpx2.get(f"{stand.admin_url}/healthz", headers={"x": "a" * 70_000}).status_code == 431
    with connect(stand.admin_url) as client:
        client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")  # as some load balancers ask
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")


def refused_start(*arguments: str, cwd: Path | None = None, **environ: str) -> str:
    """Runs `weighbridge serve`, which can't start: the one sentence that it says."""
    # Root may write anywhere, unless it goes without this.
    unprivileged = ["setpriv", "--bounding-set", "-dac_override"] if os.getuid() == 0 else []
    clean = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    clean |= {"WEIGHBRIDGE_SERVER__PORT": "0", "WEIGHBRIDGE_SERVER__ADMIN_PORT": "0"}
    done = subprocess.run(
        [*unprivileged, sys.executable, "-m", "proxy", "serve", *arguments],
        cwd=cwd,
        env=clean | environ,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (1, ""), done
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


UPSTREAM = '[[upstreams]]\nname = "google"\napi_key_env = "KEY"\n'


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("[server]\nprot = 1", r"w\.toml:2: server\.prot: unknown setting; did you mean port\?"),
        ('[limits]\ntimezone = "Europe/Berln"', r"limits\.timezone = Europe/Berln: .* did you mean 'Europe/Berlin'\?"),
        ('[server]\nhost = "192.0.2.1"', r"Can't listen on 192\.0\.2\.1:0: .* Choose another address: server\.host"),
        ('[server]\ntls_cert = "w.toml"\ntls_key = "w.toml"', r"server\.tls_cert.*w\.toml can't be used: .* PEM"),
        ('[storage]\ndata_dir = "w.toml"', r"w\.toml/weighbridge\.db can't be made: .*; storage\.data_dir names"),
        ('[storage]\ndata_dir = "junk"', r"junk/weighbridge\.db: file is not a database; restore it from a backup"),
        ('[storage]\ndata_dir = "blocked"', r"blocked/ledger can't be used: .* storage\.data_dir names"),
        ('[storage]\ndata_dir = "spoilt"', r"spoilt/ledger/0\.db can't be opened: file is not a database"),
    ],
)
def test_what_cannot_be_started_is_told_in_a_sentence(tmp_path: Path, settings: str, says: str) -> None:
    (tmp_path / "w.toml").write_text(f"{settings}\n{UPSTREAM}")
    for junk in ("junk/weighbridge.db", "blocked/ledger", "spoilt/ledger/0.db"):
        (tmp_path / junk).parent.mkdir(parents=True)
        (tmp_path / junk).write_text("neither a database nor a folder " * 40)
    assert re.search(says, refused_start("--config", "w.toml", cwd=tmp_path, KEY="k"))


def test_no_upstream_and_a_missing_secret_are_told_with_what_to_set(tmp_path: Path) -> None:
    assert "no upstream: set GEMINI_API_KEY to a Gemini API key" in refused_start(cwd=tmp_path)
    (tmp_path / "w.toml").write_text(UPSTREAM)
    said = refused_start("--config", "w.toml", cwd=tmp_path)
    assert "w.toml:3: upstreams.0.api_key_env: the environment variable KEY is not set" in said


@pytest.mark.parametrize("port", ["PORT", "ADMIN_PORT"])
def test_a_port_in_use_is_told_with_the_setting_that_takes_another(tmp_path: Path, port: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        environ = {f"WEIGHBRIDGE_SERVER__{port}": str(taken)}
        said = refused_start(cwd=tmp_path, GEMINI_API_KEY="k", **environ)
    assert f"Can't listen on 127.0.0.1:{taken}: Address already in use." in said
    assert f"server.{port.lower()}" in said


@pytest.mark.parametrize("where", [".", "weighbridge-data"])
def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path, where: str) -> None:
    closed = tmp_path / where
    closed.mkdir(exist_ok=True)
    closed.chmod(0o555)
    said = refused_start(cwd=tmp_path, GEMINI_API_KEY="k")
    closed.chmod(0o755)
    assert "weighbridge-data/weighbridge.db can't be made: Permission denied; storage.data_dir names the folder" in said


def test_a_client_that_trusts_the_certificate_is_served_over_tls(upstream: str, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, "127.0.0.1").path
    tls = {"tls_cert": str(certificate), "tls_key": str(certificate)}
    with weighbridge(tmp_path, upstream, {"server": tls}) as stand:
        assert stand.base_url.startswith("https://127.0.0.1:")
        trusting = {"verify": ssl.create_default_context(cafile=certificate)}
        options = HttpOptions(base_url=stand.base_url, client_args=trusting)
        with genai.Client(api_key=stand.key(), http_options=options) as client:
            streamed = client.models.generate_content_stream(model="gemini-3.8-flash", contents="[[chunks=5]]")
            assert len(list(streamed)) == 5
            assert client.models.generate_content(model="gemini-3.8-flash", contents="hi").text
            with pytest.raises(httpx2.RemoteProtocolError):
                client.models.generate_content(model="gemini-3.8-flash", contents="[[break-after=99]]")
        assert [record.outcome for record in stand.records()] == ["ok", "ok", "truncated"]
        with pytest.raises(httpx2.ConnectError, match="certificate"):
            httpx2.get(f"{stand.base_url}/healthz")
