"""`weighbridge prices update`, as typed: what it shows, what it takes, and what it refuses to fetch."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from typer.testing import CliRunner

from proxy.cli import price_update
from proxy.cli.main import app
from proxy.config.schema import Storage
from proxy.store.database import open_database
from proxy.tenants import audit
from tests.cli.conftest import Weighbridge
from tests.servers import running

NEWER = (
    files("proxy.billing")
    .joinpath("price_book.toml")
    .read_text(encoding="utf-8")
    .replace("version = 2026-11-21", "version = 2026-12-05")
    .replace("output_image = 120,", "output_image = 110,")
)
KEPT = Path("weighbridge-data/prices.json")


@pytest.fixture(autouse=True)
def _newer(weighbridge: Weighbridge, tmp_path: Path) -> None:
    (tmp_path / "newer.toml").write_text(NEWER, encoding="utf-8")


def image_output(weighbridge: Weighbridge) -> tuple[str, str]:
    facts = json.loads(weighbridge("prices", "show", "gemini-3-pro-image", "--json").stdout)
    return facts["tiers"]["standard"]["output_image"], facts["source"]


def test_what_changes_is_shown_and_taken_where_it_is_agreed_to(weighbridge: Weighbridge) -> None:
    answered = CliRunner().invoke(app, ["prices", "update", "newer.toml"], input="y\n")
    assert answered.exit_code == 0, answered.output
    lines = [line.split() for line in answered.stdout.splitlines()]
    assert ["price", "book", "2026-11-21", "→", "price", "book", "2026-12-05"] in lines
    assert "gemini-3-pro-image output_image 120 → 110 60 → 55 60 → 55 216 → 198" in map(" ".join, lines)
    assert sum("→" in line for line in lines) == 2
    assert image_output(weighbridge) == ("110", "price book 2026-12-05")
    assert "from price book 2026-12-05" in weighbridge("prices", "list").stdout


@pytest.mark.parametrize("said", ["n\n", "\n", ""])
def test_without_a_yes_nothing_is_taken(weighbridge: Weighbridge, said: str) -> None:
    CliRunner().invoke(app, ["prices", "update", "newer.toml"], input=said)
    assert not KEPT.exists()
    assert image_output(weighbridge) == ("120", "price book 2026-11-21")


def test_programs_are_shown_the_changes_and_take_them_with_yes_only(weighbridge: Weighbridge) -> None:
    shown = json.loads(weighbridge("prices", "update", "newer.toml", "--json").stdout)
    assert (shown["from"], shown["to"], shown["taken"]) == ("price book 2026-11-21", "price book 2026-12-05", False)
    assert shown["changes"][0] == {
        "model": "gemini-3-pro-image",
        "what": "output_image",
        "tier": "standard",
        "since": None,
        "from": "120",
        "to": "110",
    }
    assert not KEPT.exists()
    assert json.loads(weighbridge("prices", "update", "newer.toml", "--json", "--yes").stdout)["taken"] is True
    assert KEPT.exists()


def test_it_leaves_an_audit_event(weighbridge: Weighbridge, tmp_path: Path) -> None:
    weighbridge("prices", "update", "newer.toml", "--yes")
    (event,) = audit.list_events(open_database(Storage(data_dir=tmp_path / "weighbridge-data")), limit=5)
    assert event.action == "prices.update"
    assert event.changes["price_book"] == {"before": "price book 2026-11-21", "after": "price book 2026-12-05"}
    assert "prices.update" in weighbridge("audit", "list").stdout


def test_the_packages_book_is_gone_back_to_also_from_a_file_that_was_spoilt(weighbridge: Weighbridge) -> None:
    weighbridge("prices", "update", "newer.toml", "--yes")
    assert weighbridge("prices", "update", "--builtin", "--yes").exit_code == 0
    assert image_output(weighbridge) == ("120", "price book 2026-11-21")
    KEPT.write_text("{")
    spoilt = weighbridge("prices", "list")
    assert (spoilt.exit_code, spoilt.stderr.count("\n")) == (1, 1)
    assert "`weighbridge prices update --builtin`" in spoilt.stderr
    assert weighbridge("prices", "update", "--builtin", "--yes").exit_code == 0
    assert not KEPT.exists()


def test_the_same_book_again_is_nothing_to_take(weighbridge: Weighbridge) -> None:
    weighbridge("prices", "update", "newer.toml", "--yes")
    again = weighbridge("prices", "update", "newer.toml", "--yes")
    assert "No rate changes." in again.stdout
    assert "Nothing was taken." in again.stdout


def test_a_bad_file_changes_nothing(weighbridge: Weighbridge, tmp_path: Path) -> None:
    weighbridge("prices", "update", "newer.toml", "--yes")
    before = KEPT.read_bytes()
    (tmp_path / "bad.toml").write_text(NEWER.replace("output_image = 110,", "output_image = 110, output_txt = 3,"))
    refused = weighbridge("prices", "update", "bad.toml", "--yes")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "bad.toml can't be taken: prices of gemini-3-pro-image: output_txt is no rate" in refused.stderr
    assert KEPT.read_bytes() == before


def test_configured_rates_stand_before_a_book_that_was_taken(weighbridge: Weighbridge, tmp_path: Path) -> None:
    (tmp_path / "weighbridge.toml").write_text('[[prices]]\nmodel = "gemini-3-pro-image"\noutput_image = 99\n')
    weighbridge("prices", "update", "newer.toml", "--yes")
    assert image_output(weighbridge) == ("99", "configuration")


@pytest.mark.parametrize("arguments", [(), ("newer.toml", "--builtin")])
def test_it_is_one_or_the_other(weighbridge: Weighbridge, arguments: tuple[str, ...]) -> None:
    refused = weighbridge("prices", "update", *arguments)
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("http://example.com/book.toml", "only https is"),
        ("file:///etc/passwd", "only https is"),
        ("https://me:secret@example.com/book.toml", "a name or a password"),
        ("http://127.0.0.1.example.com/x", "only https is"),
        ("missing.toml", "No such file"),
    ],
)
def test_what_is_not_fetched_is_told_why(weighbridge: Weighbridge, source: str, says: str) -> None:
    refused = weighbridge("prices", "update", source, "--yes")
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert says in refused.stderr
    assert "secret" not in refused.output


async def _book(_: Request) -> Response:
    return PlainTextResponse(NEWER)


async def _moved(_: Request) -> Response:
    return RedirectResponse("/book.toml")


async def _away(_: Request) -> Response:
    return RedirectResponse("http://example.com/book.toml")


async def _round(_: Request) -> Response:
    return RedirectResponse("/round")


async def _large(_: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"#" * 65_536

    return StreamingResponse(pieces())


async def _none(_: Request) -> Response:
    return PlainTextResponse("no", 404)


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    pages = {"book.toml": _book, "moved": _moved, "away": _away, "round": _round, "large": _large, "none": _none}
    with running(Starlette(routes=[Route(f"/{path}", page) for path, page in pages.items()])) as base_url:
        yield base_url


@pytest.mark.parametrize("path", ["book.toml", "moved"])
def test_a_book_is_fetched_by_its_address(weighbridge: Weighbridge, site: str, path: str) -> None:
    assert weighbridge("prices", "update", f"{site}/{path}", "--yes").exit_code == 0
    assert image_output(weighbridge) == ("110", "price book 2026-12-05")
    assert json.loads(KEPT.read_text())["origin"] == f"{site}/{path}"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("away", "only https is"),
        ("round", "leads on and on"),
        ("large", "more than 0 MB"),
        ("none", "it answers 404"),
    ],
)
def test_an_address_that_leads_nowhere_good_changes_nothing(
    weighbridge: Weighbridge, site: str, path: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(price_update, "MOST_BYTES", 1_000_000)
    refused = weighbridge("prices", "update", f"{site}/{path}", "--yes")
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert says in refused.stderr
    assert not KEPT.exists()
