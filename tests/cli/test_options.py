"""What commands share: how an expected error is told, and what a person should type next."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from proxy.billing.ledger_errors import LedgerLocked
from proxy.cli import options
from proxy.cli.options import CommandError
from proxy.config.load import ConfigError
from proxy.resources import PortTaken
from proxy.store.database import StoreError
from proxy.tenants.projects import TenancyError


def result_of(error: Exception) -> Result:
    """Of a command that fails so, in a group."""
    app = options.group("")

    @app.callback()
    def _group() -> None:
        """A group, though it has one command."""

    @app.command()
    def fail() -> None:
        raise error

    return CliRunner().invoke(app, ["fail"])


def test_a_file_of_another_user_is_named_with_what_to_do() -> None:
    """Without Python's way of writing it, in which the number comes first and the path last."""
    told = result_of(PermissionError(13, "Permission denied", "/data/ledger")).stderr
    assert told == "error: /data/ledger: Permission denied; run this as the user that the server runs as\n"
    assert result_of(OSError(5, "Input/output error", "/data/x")).stderr == "error: /data/x: Input/output error\n"


@pytest.mark.parametrize("kind", [CommandError, StoreError, TenancyError, LedgerLocked, PortTaken, OSError])
def test_an_error_that_is_expected_is_a_sentence_and_ends_with_1(kind: type[Exception]) -> None:
    result = result_of(kind("it went wrong: do this"))
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "error: it went wrong: do this\n")


def test_several_problems_are_a_line_each() -> None:
    assert result_of(ConfigError(["one", "two"])).stderr == "error: one\nerror: two\n"


def test_an_error_that_is_a_bug_is_not_passed_off_as_the_users() -> None:
    assert isinstance(result_of(ZeroDivisionError()).exception, ZeroDivisionError)


def test_people_are_told_what_to_type_to_start_the_program_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name where that is on the path, its place where it is installed beside Python, else the module."""
    folder = tmp_path / "here" / "check out"
    folder.mkdir(parents=True)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    assert options.command() == "python -m proxy"
    (folder / "weighbridge").touch(0o755)
    assert options.command() == "'check out/weighbridge'"
    monkeypatch.chdir(folder.parent.parent / "other")
    assert options.command() == f"'{folder}/weighbridge'"
    monkeypatch.setenv("PATH", str(folder))
    assert options.command() == "weighbridge"


def test_commands_that_call_nobody_read_their_database_without_an_upstream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    (tmp_path / "w.toml").write_text('[storage]\ndata_dir = "data"\n')
    assert str(options.database(tmp_path / "w.toml")) == str(tmp_path / "data" / "weighbridge.db")


def test_an_error_never_shows_what_has_the_shape_of_a_secret() -> None:
    result = result_of(
        CommandError(f"there is no key 'wb_{'0123456789' * 3}01234567' and no AIzaSy{'0123456789' * 3}012")
    )
    assert "0123456789" not in result.stderr
    assert result.stderr.startswith("error: there is no key '")


def test_who_runs_a_command_is_told_by_the_name_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody-else")
    assert options.actor() == f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    assert options.actor() == "cli:4000000000"
