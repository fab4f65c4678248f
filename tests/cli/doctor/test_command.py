"""`weighbridge doctor` as typed: where all is well, where nothing works, and beside a server that runs."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Weighbridge
from tests.cli.doctor.folders import contents, untouched
from tests.scripted import says, scripted
from tests.stand import Weighbridge as Stand
from tests.stand import weighbridge as running

SECRET = "secret-of-no-known-shape"


def configured(folder: Path, base_url: str, more: str = "") -> None:
    upstream = f'[[upstreams]]\nname = "main"\nbase_url = "{base_url}"\napi_key_env = "MY_KEY"\n'
    ports = "[server]\nport = 0\nadmin_port = 0\n"
    (folder / "weighbridge.toml").write_text(ports + more + upstream)


def test_where_all_is_well_it_says_so_and_leaves_no_trace(
    weighbridge: Weighbridge, upstream: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured(tmp_path, upstream, '[[models]]\nmatch = "old"\nuse = "gemini-3.8-flash"\n')
    monkeypatch.setenv("MY_KEY", "emulator-key")
    with untouched(tmp_path):
        result = weighbridge("doctor")
        told = json.loads(weighbridge("doctor", "--json").stdout)
    assert (result.exit_code, "problem" in result.stdout) == (0, False)
    assert "ok       upstream main  its clock and this machine's agree" in result.stdout
    assert told["ok"] is True
    assert {finding["check"] for finding in told["findings"]} >= {"configuration", "aliases", "ledger", "disk", "doors"}
    assert set(told["findings"][0]) == {"check", "verdict", "what", "do"}


def test_where_it_is_not_it_says_what_to_do_and_ends_with_1_and_shows_no_secret(
    weighbridge: Weighbridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = b'{"error": {"message": "the key %b is refused", "details": []}}' % SECRET.encode()
    with scripted(says(b"HTTP/1.1 401 X\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))) as script:
        configured(tmp_path, script.base_url)
        monkeypatch.setenv("MY_KEY", SECRET)
        with untouched(tmp_path):
            result = weighbridge("doctor")
        assert weighbridge("doctor", "--json").exit_code == 1
    assert result.exit_code == 1
    assert "problem  upstream main  " in result.stdout
    assert "→ see what the key of upstreams.api_key_env may be used for" in result.stdout
    assert SECRET not in result.output
    assert result.stdout.splitlines()[-1].endswith("1 problem")


def test_an_alias_to_what_the_upstream_does_not_offer_is_told(
    weighbridge: Weighbridge, upstream: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured(tmp_path, upstream, '[[models]]\nmatch = "old"\nuse = "gemini-nowhere"\n')
    monkeypatch.setenv("MY_KEY", "emulator-key")
    told = weighbridge("doctor").stdout
    assert "warning  upstream main  it doesn't offer gemini-nowhere\n" in told
    assert "the alias old leads to gemini-nowhere, which has no price" in told


def test_without_a_key_the_rest_is_looked_at_all_the_same(weighbridge: Weighbridge, tmp_path: Path) -> None:
    configured(tmp_path, "http://127.0.0.1:1")
    with untouched(tmp_path):
        told = json.loads(weighbridge("doctor", "--json").stdout)
    (problem,) = [finding for finding in told["findings"] if finding["verdict"] == "problem"]
    assert "the environment variable MY_KEY is not set" in problem["what"]
    looked_at = {finding["check"] for finding in told["findings"]}
    assert "ledger" in looked_at
    assert "open files" not in looked_at, "how many it needs hangs on the upstreams"


def test_a_file_that_cannot_be_read_at_all_is_told(weighbridge: Weighbridge, tmp_path: Path) -> None:
    (tmp_path / "weighbridge.toml").write_text("broken [")
    result = weighbridge("doctor")
    assert (result.exit_code, "is not valid TOML" in result.stdout) == (1, True)


def doctor(stand: Stand) -> tuple[int, dict[str, str]]:
    """Its exit code, and for each check the last that it found."""
    command = [sys.executable, "-m", "proxy", "doctor", "--json", "--config", str(stand.folder / "weighbridge.toml")]
    done = subprocess.run(command, capture_output=True, text=True, env=stand._env())
    findings = json.loads(done.stdout)["findings"]
    return done.returncode, {finding["check"]: finding["what"] for finding in findings}


def test_beside_a_server_and_after_its_death_it_reads_and_touches_nothing(upstream: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with running(tmp_path, upstream, {"server": {"admin_port": port}}) as stand:
        stand.key()
        before = contents(stand.data_dir)
        code, found = doctor(stand)
        assert code == 0
        assert found["ledger"].endswith(", whole")
        assert f"held by the server that runs on this data folder, process {stand.process.pid}" in found["doors"]  # type: ignore[union-attr]
        assert contents(stand.data_dir) == before
        assert stand.stop(signal.SIGKILL) == -9
        before = contents(stand.data_dir)
        code, found = doctor(stand)
        assert (code, found["doors"]) == (0, f"control door, 127.0.0.1:{port}: free")
        assert contents(stand.data_dir) == before
