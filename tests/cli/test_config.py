"""`weighbridge config`, as typed."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from tests.cli.conftest import Weighbridge

FILE = """\
[server]
port = 9000
[gateway]
cors_origins = ["https://a.example"]
[[upstreams]]
name = "main"
api_key_env = "MY_KEY"
limits = {rpm = 60, usd_per_10min = 2.50, "*-image" = {ipm = 5}}
[[models]]
match = "gemini-2.5-*"
use = "gemini-x"
[[prices]]
model = "gemini-x"
from = 2026-12-01
input_text = 0.075
"""


@pytest.fixture(autouse=True)
def _file(weighbridge: Weighbridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weighbridge.toml").write_text(FILE)
    monkeypatch.setenv("MY_KEY", "AIzaGeheim")
    monkeypatch.setenv("WEIGHBRIDGE_SERVER__ADMIN_PORT", "9001")


def test_check_says_what_was_read_from_where_and_ok(weighbridge: Weighbridge) -> None:
    result = weighbridge("config", "check")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "file: weighbridge.toml"
    assert "server.port: from weighbridge.toml:2" in lines
    assert "server.admin_port: from env WEIGHBRIDGE_SERVER__ADMIN_PORT" in lines
    assert lines[-1] == "ok"


def test_check_tells_every_problem_and_ends_with_1(weighbridge: Weighbridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY")
    monkeypatch.setenv("WEIGHBRIDGE_SERVER__ADMIN_PORT", "x")
    result = weighbridge("config", "check")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("error: ") == 2
    assert (
        "error: weighbridge.toml:7: upstreams.0.api_key_env: the environment variable MY_KEY is not set"
        in result.stderr
    )
    told = weighbridge("config", "check", "--json")
    assert told.exit_code == 1
    assert [len(json.loads(told.stdout)[name]) for name in ("problems", "warnings")] == [2, 0]


def test_check_warns_of_a_secret_that_everybody_can_read(weighbridge: Weighbridge, tmp_path: Path) -> None:
    (tmp_path / "weighbridge.toml").write_text('[[upstreams]]\nname = "a"\napi_key_file = "key"\n')
    (tmp_path / "key").write_text("AIzaGeheim")
    (tmp_path / "key").chmod(0o644)
    result = weighbridge("config", "check")
    assert result.exit_code == 0
    assert result.stderr == "warning: key: every user of this machine can read this secret; chmod 600 key\n"


def test_check_tells_a_file_of_authorities_that_is_none(
    weighbridge: Weighbridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "gone.pem")
    result = weighbridge("config", "check")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: env SSL_CERT_FILE: gone.pem: it can't be read: No such file")


def test_check_tells_a_certificate_that_no_door_can_show(weighbridge: Weighbridge, tmp_path: Path) -> None:
    (tmp_path / "weighbridge.toml").write_text(
        '[server]\ntls_cert = "junk"\ntls_key = "junk"\n' + FILE.partition("9000\n")[2]
    )
    (tmp_path / "junk").write_text("no certificate")
    result = weighbridge("config", "check")
    assert result.exit_code == 1
    assert "error: server.tls_cert, server.tls_key: junk and junk can't be used" in result.stderr


def test_what_show_prints_is_a_configuration_that_reads_the_same(weighbridge: Weighbridge, tmp_path: Path) -> None:
    first = weighbridge("config", "show")
    assert "port = 9000  # weighbridge.toml:2" in first.stdout
    assert "admin_port = 9001  # env WEIGHBRIDGE_SERVER__ADMIN_PORT" in first.stdout
    assert "max_body_mb = 100  # default" in first.stdout
    assert tomllib.loads(first.stdout)["prices"] == [{"model": "gemini-x", "from": "2026-12-01", "input_text": 0.075}]
    assert tomllib.loads(first.stdout)["models"] == [{"match": "gemini-2.5-*", "use": "gemini-x"}]
    assert 'limits = {rpm = 60, usd_per_10min = 2.5, "*-image" = {ipm = 5}}  # weighbridge.toml:8' in first.stdout
    (tmp_path / "again.toml").write_text(first.stdout)
    settings = [
        json.loads(weighbridge("config", "show", "--json", *options).stdout)["settings"]
        for options in ((), ("--config", "again.toml"))
    ]
    assert settings[0] == settings[1]


def test_secrets_are_named_and_never_shown(weighbridge: Weighbridge) -> None:
    for arguments in (("show",), ("show", "--json"), ("check",), ("check", "--json")):
        assert "Geheim" not in weighbridge("config", *arguments).output
    assert "(set, from env MY_KEY)" in weighbridge("config", "show").stdout
    shown = json.loads(weighbridge("config", "show", "--json").stdout)["settings"]
    assert shown["upstreams"][0]["api_key"] == "(set, from env MY_KEY)"


def test_show_refuses_to_show_half_a_configuration(weighbridge: Weighbridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY")
    result = weighbridge("config", "show")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "MY_KEY is not set" in result.stderr
