"""`weighbridge upstreams`, as typed, where no server runs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from proxy.cli import upstreams
from tests.cli.conftest import Weighbridge

POOL = """
[[upstreams]]
name = "first"
api_key_env = "NOT_HERE"
weight = 3
[[upstreams]]
name = "second"
base_url = "https://second.example.com/gemini"
api_key_file = "not-here"
priority = 1
models = ["gemini-3*"]
"""


@pytest.fixture
def pool(weighbridge: Weighbridge, tmp_path: Path) -> Weighbridge:
    """A configuration with two upstreams, whose keys this user can't read."""
    (tmp_path / "weighbridge.toml").write_text(POOL)
    return weighbridge


def test_one_is_disabled_and_enabled_with_an_audit_event_each(pool: Weighbridge) -> None:
    disabled = pool("upstreams", "disable", "first")
    assert (disabled.exit_code, disabled.stderr) == (0, "")
    assert disabled.stdout.startswith("Upstream first is disabled: ")
    assert pool("upstreams", "enable", "first").stdout == "Upstream first is asked again.\n"
    assert pool("upstreams", "enable", "first").stdout == "Upstream first was not disabled.\n"
    told = pool("audit", "list").stdout
    assert [line.split("  ")[-1] for line in told.splitlines() if "UTC  " in line] == [
        "upstream.enable first",
        "upstream.disable first",
    ]
    event = json.loads(pool("audit", "list", "--json").stdout)[0]
    assert (event["project"], event["upstream"], event["changes"]["disabled_at"]["after"]) == (None, "first", None)


def test_programs_get_since_when(pool: Weighbridge) -> None:
    first = json.loads(pool("upstreams", "disable", "first", "--json").stdout)
    assert first["disabled_at"].endswith("Z")
    assert json.loads(pool("upstreams", "disable", "first", "--json").stdout) == first
    assert json.loads(pool("upstreams", "enable", "first", "--json").stdout) == {"name": "first", "disabled_at": None}


def test_disabling_the_last_one_is_done_and_warned_of(pool: Weighbridge) -> None:
    pool("upstreams", "disable", "first")
    last = pool("upstreams", "disable", "second")
    assert last.exit_code == 0
    assert last.stderr == "warning: every upstream is disabled, so every call is refused (NO_UPSTREAM)\n"
    assert pool("upstreams", "enable", "first").stderr == ""


def test_a_name_that_is_not_listed_is_refused_with_those_that_are(pool: Weighbridge) -> None:
    for command in ("disable", "enable"):
        result = pool("upstreams", command, "frist")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == (
            "error: there is no upstream 'frist'; those there are: first, second. Did you mean 'first'?\n"
        )
    assert pool("audit", "list").stdout == "No change is on record here.\n"


def test_one_that_the_configuration_lists_no_more_can_be_enabled(pool: Weighbridge, tmp_path: Path) -> None:
    pool("upstreams", "disable", "second")
    (tmp_path / "weighbridge.toml").write_text(POOL.split('[[upstreams]]\nname = "second"')[0])
    assert "doesn't list it" in pool("upstreams", "enable", "second").stdout
    assert pool("upstreams", "enable", "second").exit_code == 1


def test_without_a_server_the_configuration_is_listed_and_what_is_disabled(pool: Weighbridge) -> None:
    pool("upstreams", "disable", "second")
    alone = pool("upstreams")
    assert alone.stdout == pool("upstreams", "list").stdout
    assert alone.stderr == "No server runs on this data_dir: this is the configuration, and what is disabled.\n"
    heads, first, second, *besides = alone.stdout.splitlines()
    assert heads.split()[:2] == ["UPSTREAM", "STATE"]
    assert first.split() == ["first", "-", "0", "3", "-", "-", "generativelanguage.googleapis.com"]
    assert second.split() == ["second", "disabled", "1", "1", "-", "-", "second.example.com/gemini"]
    assert besides[:3] == ["", "second:", "  models: gemini-3*"]
    assert besides[3].startswith("  disabled since 20")


def test_programs_get_the_same_without_a_server_as_far_as_it_is_known(pool: Weighbridge) -> None:
    pool("upstreams", "disable", "second")
    told = pool("upstreams", "--json")
    first, second = json.loads(told.stdout)["upstreams"]
    assert (first["state"], first["disabled_at"], first["outages"]) == (None, None, None)
    assert (second["state"], second["disabled_at"][-1], second["models"]) == ("disabled", "Z", ["gemini-3*"])
    assert "key" not in told.stdout
    assert "behind the command" in pool("upstreams", "--json", "list").stderr


def test_no_upstream_at_all_is_said(weighbridge: Weighbridge) -> None:
    assert weighbridge("upstreams").stdout.startswith("The configuration lists no upstream")
    assert "the configuration lists none" in weighbridge("upstreams", "disable", "google").stderr


NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def row(**known: Any) -> dict[str, Any]:
    unknown = {"outages": [], "quota": [], "last_error": None, "latency_ms": None, "in_flight": 0, "disabled_at": None}
    settings = {"base_url": "https://generativelanguage.googleapis.com", "models": ["*"], "projects": ["*"]}
    return {"name": "google", "priority": 0, "weight": 1, "state": "ready"} | settings | unknown | known


def test_what_a_server_tells_is_printed_within_a_hundred_columns(capsys: pytest.CaptureFixture[str]) -> None:
    quota = {"model": "gemini-3.8-flash", "why": "rate_limited", "said": "You exceeded your quota. See " + "x" * 180}
    outages = [
        {**quota, "until": "2026-11-22T12:00:44.100000Z"},
        {"model": "*", "why": "unreachable", "until": "2026-11-22T11:59:59.000000Z", "said": None},
        {"model": "gemini-3-pro", "why": "rate_limited", "until": "2026-11-22T20:00:00.000000Z", "said": None},
    ]
    used = [
        {"kind": "rpm", "model": "gemini-3.8-flash", "used": 1057, "value": 2000},
        {"kind": "ipm", "model": "gemini-3-pro-image", "used": 5, "value": 5},
        {"kind": "usd_per_10min", "model": "*", "used": "1.5", "value": "10"},
    ]
    error = {"at": "2026-11-22T11:57:30.000000Z", "what": "503 overloaded: " + "The model is overloaded. " * 6}
    busy = row(state="partly_out", in_flight=1234, latency_ms=12_345.6, outages=outages, quota=used, last_error=error)
    far = row(name="far", base_url="http://a-gateway-of-somebody-else.example.com:8080/with/a/path")
    upstreams._print([busy, far], NOW)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert " ".join(lines[1].split()) == "google partly out 0 1 1,234 12,346 ms generativelanguage.googleapis.com"
    assert lines[2].endswith("http://a-gateway-of-somebody-else. …")
    assert lines[4:8] == [
        "google:",
        "  out for gemini-3.8-flash, rate limited, for 45 s more: You exceeded your quota",
        "  out for all models, unreachable, to be tried by the next call",
        "  out for gemini-3-pro, rate limited, for 8 h 0 min more",
    ]
    assert lines[8:11] == [
        "  rpm (gemini-3.8-flash): 1,057 of 2,000 used",
        "  ipm (gemini-3-pro-image): 5 of 5 used, no room now",
        "  usd_per_10min: $1.5 of $10 used",
    ]
    assert lines[11].startswith("  last error, 2 min ago: 503 overloaded: ")
    assert "far:" not in lines
