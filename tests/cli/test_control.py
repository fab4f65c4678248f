"""How commands find the server that runs on a data_dir, and what they say where it can't be asked."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from proxy.billing import ledger_slot
from proxy.cli import control
from proxy.cli.options import CommandError
from proxy.config.load import ConfigError
from proxy.config.schema import Settings, Storage
from proxy.control.admin.access import Guarded
from proxy.control.admin.problems import Fault, Kind, Problem, invalid
from proxy.control.admin.token import VARIABLE
from tests.servers import running

TOKEN = "wba_0123456789abcdef"


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, TOKEN)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(storage=Storage(data_dir=tmp_path))


@contextmanager
def owned(data_dir: Path, url: str | None) -> Iterator[None]:
    """A data_dir whose ledger is this process's, as a server's is; its control door at `url`."""
    (data_dir / "ledger").mkdir(exist_ok=True)
    lock = ledger_slot.take_lock(data_dir / "ledger")
    if url is not None:
        ledger_slot.announce(data_dir / "ledger", url)
    try:
        yield
    finally:
        os.close(lock)


def door(settings: Settings) -> control.ControlDoor:
    found = control.running(settings)
    assert found is not None
    return found


def admin(*answers: Route) -> Starlette:
    app = Starlette(routes=list(answers))
    outer = Starlette()
    outer.mount("/admin/v1", Guarded(app, TOKEN))
    return outer


async def echo(request: Request) -> Response:
    return JSONResponse({"asked": await request.json(), "path": request.url.path}, 201)


async def refuse(_: Request) -> Response:
    return invalid(Fault("why", "say why"), Fault("of", "there is none")).response()


async def conflict(_: Request) -> Response:
    return Problem(Kind.CONFLICT, "It is taken.").response()


async def page(_: Request) -> Response:
    return PlainTextResponse("welcome to another program")


def test_where_no_server_runs_there_is_none_to_ask(settings: Settings, tmp_path: Path) -> None:
    assert control.running(settings) is None
    with owned(tmp_path, "http://127.0.0.1:1"):
        pass
    assert control.running(settings) is None


def test_a_server_is_asked_wherever_it_listens(settings: Settings, tmp_path: Path) -> None:
    with running(admin(Route("/thing", echo, methods=["POST"]))) as url, owned(tmp_path, url):
        assert door(settings).post("thing", {"a": "ü"}) == {"asked": {"a": "ü"}, "path": "/admin/v1/thing"}


def test_no_proxy_of_the_environment_sees_the_token(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with running(admin(Route("/thing", echo, methods=["POST"]))) as url, owned(tmp_path, url):
        assert door(settings).post("thing", {})["path"] == "/admin/v1/thing"


def test_a_server_that_starts_is_waited_for(settings: Settings, tmp_path: Path) -> None:
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            ledger_slot.announce(tmp_path / "ledger", "http://127.0.0.1:4711")

    with owned(tmp_path, None):
        assert control.running(settings, sleep) is not None
    assert len(looks) == 3


def test_a_command_that_had_the_lock_for_a_moment_is_no_server(settings: Settings, tmp_path: Path) -> None:
    with owned(tmp_path, None):
        lock = ledger_slot.owner_of(tmp_path / "ledger")
    assert lock == (f"process {os.getpid()}", None)
    assert control.running(settings) is None


def test_a_server_that_never_says_where_it_is_is_told_of(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "STARTS_WITHIN_S", -1)
    with owned(tmp_path, None), pytest.raises(CommandError, match=rf"held by process {os.getpid()}, which doesn't say"):
        control.running(settings)


def test_a_refused_token_says_what_to_set(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(admin()) as url, owned(tmp_path, url):
        monkeypatch.setenv(VARIABLE, "not-the-token-of-this-server")
        with pytest.raises(CommandError, match=r"refuses the admin token: .* WEIGHBRIDGE_ADMIN_TOKEN") as caught:
            door(settings).get("thing")
    assert "not-the-token" not in str(caught.value)


def test_where_there_is_no_token_the_sentence_says_where_to_get_it(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    with owned(tmp_path, "http://127.0.0.1:1"):
        with pytest.raises(CommandError, match="there is no admin token here"):
            control.running(settings)
        (tmp_path / "admin-token").write_text(TOKEN)
        (tmp_path / "admin-token").chmod(0o644)
        with pytest.raises(ConfigError, match="every user of this machine"):
            control.running(settings)


def test_a_door_that_nobody_opens_is_told_of(settings: Settings, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with owned(tmp_path, url), pytest.raises(control.Unanswered, match=rf"gives no answer at {url}"):
        door(settings).get("thing")


def test_a_server_that_hangs_is_not_waited_for_for_ever(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "ANSWERS_WITHIN_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        url = f"http://127.0.0.1:{frozen.getsockname()[1]}"
        with owned(tmp_path, url), pytest.raises(control.Unanswered, match="gives no answer"):
            door(settings).get("thing")


@pytest.mark.parametrize("path", ["page", "nothing"])
def test_another_program_that_answers_there_is_known_for_one(settings: Settings, tmp_path: Path, path: str) -> None:
    with (
        running(admin(Route("/page", page))) as url,
        owned(tmp_path, url),
        pytest.raises(CommandError, match="is no Weighbridge"),
    ):
        door(settings).get(path)


def test_a_problem_is_told_in_its_own_sentence(settings: Settings, tmp_path: Path) -> None:
    with running(admin(Route("/refuse", refuse), Route("/conflict", conflict))) as url, owned(tmp_path, url):
        with pytest.raises(CommandError, match=r"^say why; there is none$"):
            door(settings).get("refuse")
        with pytest.raises(CommandError, match=r"^It is taken\.$"):
            door(settings).get("conflict")
