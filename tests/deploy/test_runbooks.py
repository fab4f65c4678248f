"""The alerts' runbooks: a reader who follows one finds that its commands and its queries do what they are for."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.deploy.prometheus_server import RULES, Prometheus
from tests.deploy.scenes import everything
from tests.docs.blocks import Block, blocks_of_page, commands
from tests.pages import ROOT

NAMES = re.findall(r'runbook_url: ".*/([\w-]+\.md)"', RULES.read_text("utf-8"))
BLOCKS = [block for name in NAMES for block in blocks_of_page(ROOT / "docs" / "runbooks" / name)]
FOLLOWED = "console", "promql"
FINDS_SOMETHING = "weighbridge doctor"
"""Ends with 1: where it is followed, keys are refused and upstreams can't be reached."""

IN_ONE_PROCESS = """
import json, sys
from typer.testing import CliRunner
from proxy.cli.main import app
done = [CliRunner().invoke(app, command, prog_name="weighbridge") for command in json.loads(sys.argv[1])]
print(json.dumps([[each.exit_code, each.output] for each in done]))
"""
"""Runs several commands: a process takes a second to begin."""


def of(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


def test_every_block_is_followed() -> None:
    """All are commands or queries, each page has some, and each command is ours."""
    assert {block.language for block in BLOCKS} == set(FOLLOWED)
    assert {Path(block.page).name for block in BLOCKS} == set(NAMES)
    assert all(command.text.startswith("weighbridge ") for block in of("console") for command in commands(block))


def test_commands_and_queries_of_the_runbooks_are_understood(
    tmp_path: Path, start_prometheus: Callable[..., Prometheus]
) -> None:
    """In a run in which all sorts of things go wrong. A query may find nothing; that it is none would be an error."""
    with everything(tmp_path) as scene:
        prometheus = start_prometheus([scene.stand.admin_url], rules=())
        scene.traffic()
        prometheus.scraped()
        for block in of("promql"):
            prometheus.query(block.text)
        asked = sorted({command.text.strip() for block in of("console") for command in commands(block)})
        configured = [[*text.split()[1:], "--config", str(tmp_path / "weighbridge.toml")] for text in asked]
        done = subprocess.run(
            [sys.executable, "-c", IN_ONE_PROCESS, json.dumps(configured)],
            stdout=subprocess.PIPE,
            env=scene.stand._env(),
            text=True,
            timeout=120,
            check=True,
        )
    for text, (code, said) in zip(asked, json.loads(done.stdout), strict=True):
        assert code == (text == FINDS_SOMETHING), f"{text}\n{said}"
        assert len(said) > 20, f"{text}\n{said}"
