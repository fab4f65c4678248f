"""A running server takes another price book, and goes back: no restart, and a bad file changes nothing."""

from __future__ import annotations

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2

from proxy.billing.prices import PriceBook
from proxy.billing.rate_tables import divide_half_even
from tests.journeys.test_reload import counted, told
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
        stand.run("prices", "update", str(newer), "--yes")
        until(lambda: source() == "price book 2026-12-05", "the book is taken")

        kept = stand.data_dir / "prices.json"
        kept.write_text(kept.read_text().replace('"input_text"', '"input_txt"'))
        until(lambda: counted(stand, "rejected") == 1, "the spoilt book is refused")
        assert source() == "price book 2026-12-05"
        assert "input_txt is no rate" in told(stand, "configuration_rejected")[0]["why"]

        stand.run("prices", "update", "--builtin", "--yes")
        until(lambda: source() == "price book 2026-11-21", "the package's book is gone back to")


def test_a_server_does_not_start_on_a_spoilt_book_and_says_the_way_back(upstream: str, tmp_path: Path) -> None:
    stand = Weighbridge(tmp_path, upstream)
    stand.data_dir.mkdir()
    (stand.data_dir / "prices.json").write_text(json.dumps({"form": "price book"}))
    stand.spawn()
    assert stand.wait() == 1
    assert "`weighbridge prices update --builtin`" in stand.log()


def test_a_period_is_priced_anew_while_the_server_serves(upstream: str, tmp_path: Path) -> None:
    """Its one writer writes the adjustments; calls go on, and the bill is exact to the nano-dollar."""
    newer = tmp_path / "newer.toml"
    newer.write_text(BOOK.read_text().replace("output_text = 3.75", "output_text = 6.000000001"))
    with weighbridge(tmp_path, upstream) as stand:
        headers = {"x-goog-api-key": stand.key()}
        over, answers = threading.Event(), Counter[int]()

        def call() -> None:
            with httpx2.Client(base_url=stand.base_url, headers=headers, timeout=60) as client:
                while not over.is_set():
                    answers[client.post(f"{TEXT}generateContent", json=body("hello")).status_code] += 1

        with ThreadPoolExecutor(1) as callers:
            calling = callers.submit(call)
            until(lambda: answers[200] >= 20, "calls are made")
            before = {record.record_id for record in stand.records()}
            assert len(before) >= 20
            taken = counted(stand, "applied")
            stand.run("prices", "update", str(newer), "--yes")
            until(lambda: counted(stand, "applied") > taken, "the new rates are in force")
            written = json.loads(stand.run("ledger", "rerate", "--since", "2020-01-01", "--yes", "--json"))["written"]
            over.set()
            calling.result()
        assert set(answers) == {200}
        records = stand.records()
        made = {record.caused_by: record for record in records if record.kind == "adjustment"}
        assert written["adjustments"] == len(made) >= len(before)
        for record in records:
            if record.kind == "call":
                rates = {name: rate for name, (_, rate) in record.rates.items()} | {"output_text": 6_000_000_001}
                exact = sum(quantity * rates[name] for name, (quantity, _) in record.rates.items())
                added = made[record.record_id].cost_usd if record.record_id in made else 0
                assert record.cost_usd + added == divide_half_even(exact)
        again = json.loads(stand.run("ledger", "rerate", "--since", "2020-01-01", "--yes", "--json"))
        assert (again["records"], again["written"]["adjustments"]) == (0, 0)


def test_a_model_without_a_price_is_logged_once_named_in_the_report_and_priced_later(
    upstream: str, tmp_path: Path
) -> None:
    """Not even genai-prices has gemini-4-hydrogen: a book that leaves it out has no price for it."""
    without = tmp_path / "without.toml"
    without.write_text(BOOK.read_text().replace('id = "gemini-4-hydrogen"', 'id = "gemini-4-helium"'))
    stand = Weighbridge(tmp_path, upstream)
    key = stand.key()
    stand.run("prices", "update", str(without), "--yes")
    stand.start()
    try:
        for _ in range(3):
            url = f"{stand.base_url}/v1beta/models/gemini-4-hydrogen:generateContent"
            assert httpx2.post(url, json=body("hello"), headers={"x-goog-api-key": key}).status_code == 200
        assert [line["model"] for line in told(stand, "model_unpriced")] == ["gemini-4-hydrogen"]
    finally:
        stand.stop()
    assert [record.cost_usd for record in stand.records()] == [None] * 3
    assert "unpriced: model gemini-4-hydrogen, 3 calls" in stand.run("usage", "report")

    stand.run("prices", "update", "--builtin", "--yes")
    priced = json.loads(stand.run("ledger", "rerate", "--since", "2020-01-01", "--yes", "--json"))
    assert [row["unpriced_before"] for row in priced["rows"]] == [3]
    records = stand.records()
    weighed = records[0].rates
    assert weighed is not None
    book = PriceBook.of(None).rates_at("gemini-4-hydrogen", records[0].started_at)
    assert book is not None
    exact = book.price({name: quantity for name, (quantity, _) in weighed.items()}).cost
    assert [record.cost_usd for record in records[3:]] == [exact] * 3
