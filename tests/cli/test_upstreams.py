"""`weighbridge upstreams`, as typed, where no server runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
