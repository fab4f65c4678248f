"""A running server takes another price book, and goes back: no restart, and a bad file changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2

from tests.journeys.test_reload import counted, logged
from tests.journeys.watching import TEXT, body, until
from tests.stand import Weighbridge, weighbridge

BOOK = Path(__file__).parents[2] / "proxy" / "billing" / "price_book.toml"


def test_a_running_server_follows_the_book_that_is_taken(upstream: str, tmp_path: Path) -> None:
    newer = tmp_path / "newer.toml"
    newer.write_text(BOOK.read_text().replace("version = 2026-11-21", "version = 2026-12-05"))
    with weighbridge(tmp_path, upstream) as stand:
        key = stand.key()

        def source() -> str | None:
            answer = httpx2.post(
                f"{stand.base_url}{TEXT}generateContent", json=body("hello"), headers={"x-goog-api-key": key}
            )
            assert answer.status_code == 200
            return stand.records()[-1].price_source

        assert source() == "price book 2026-11-21"
        taken = counted(stand, "applied")
        stand.run("prices", "update", str(newer), "--yes")
        until(lambda: counted(stand, "applied") > taken, "the book is taken")
        assert source() == "price book 2026-12-05"

        kept = stand.data_dir / "prices.json"
        kept.write_text(kept.read_text().replace('"input_text"', '"input_txt"'))
        until(lambda: counted(stand, "rejected") == 1, "the spoilt book is refused")
        assert source() == "price book 2026-12-05"
        assert "input_txt is no rate" in logged(stand, "configuration_rejected")[0]["why"]

        taken = counted(stand, "applied")
        stand.run("prices", "update", "--builtin", "--yes")
        until(lambda: counted(stand, "applied") > taken, "the package's book is gone back to")
        assert source() == "price book 2026-11-21"


def test_a_server_does_not_start_on_a_spoilt_book_and_says_the_way_back(upstream: str, tmp_path: Path) -> None:
    stand = Weighbridge(tmp_path, upstream)
    stand.data_dir.mkdir()
    (stand.data_dir / "prices.json").write_text(json.dumps({"form": "price book"}))
    stand.spawn()
    assert stand.wait() == 1
    assert "`weighbridge prices update --builtin`" in stand.log()
