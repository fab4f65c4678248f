"""The command as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from proxy import __version__
from proxy.cli.main import GROUPS, app
from proxy.config.schema import Storage
from proxy.store.database import open_database
from proxy.store.tables import projects
from tests.cli.conftest import Weighbridge


def run(tmp_path: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONWARNINGS": "error"}
    return subprocess.run(
        [sys.executable, "-m", "proxy", *arguments], cwd=tmp_path, env=clean | environ, capture_output=True, text=True
    )


def test_a_project_and_a_key_are_made_without_any_configuration(tmp_path: Path) -> None:
    assert run(tmp_path, "project", "create", "alice").returncode == 0
    made = run(tmp_path, "key", "create", "alice", "--json")
    assert (made.returncode, made.stderr) == (0, "")
    assert (tmp_path / "weighbridge-data" / "weighbridge.db").stat().st_mode & 0o777 == 0o600


def test_a_mistake_is_a_sentence_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "weighbridge.toml").write_text("[server]\nprot = 1\n")
    result = run(tmp_path, "project", "list")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "error: weighbridge.toml:2: server.prot: unknown setting; did you mean port?\n"


def test_a_command_that_does_not_exist_ends_with_2(tmp_path: Path) -> None:
    result = run(tmp_path, "projcet", "list")
    assert result.returncode == 2
    assert "No such command 'projcet'" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    """More than a pipe holds is printed to one that reads a line."""
    with open_database(Storage(data_dir=tmp_path / "weighbridge-data")).writing() as connection:
        connection.execute(projects.insert(), [{"name": f"p{number}", "created_at": 0} for number in range(5000)])
    command = f"{sys.executable} -m proxy project list | head -1"
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    result = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert result.stdout.startswith("PROJECT")
    assert result.stderr == ""


def test_the_version_is_told(weighbridge: Weighbridge) -> None:
    assert weighbridge("--version").stdout == f"weighbridge {__version__}\n"


COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("group", GROUPS)
def test_help_of_every_command_has_an_example_that_begins_with_its_name(weighbridge: Weighbridge, group: str) -> None:
    for name in COMMANDS[group].commands:
        text = weighbridge(group, name, "--help").stdout
        assert f"weighbridge {group} {name}" in text
        assert "--config" in text


def test_a_command_imports_nothing_of_the_server_and_of_other_commands(tmp_path: Path) -> None:
    """What every command would cost, half a second, is paid by those that need it."""
    run_it = "from proxy.cli.main import app; app(['key', 'list'], standalone_mode=False)"
    command = [sys.executable, "-c", f"import sys; {run_it}; print(*sys.modules)"]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
    said = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True).stdout.split()
    assert "proxy.cli.keys" in said
    assert {"proxy.app", "proxy.doors", "proxy.cli.serve", "proxy.cli.usage", "uvicorn", "PIL"} & set(said) == set()
