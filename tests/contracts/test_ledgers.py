"""Whoever reads the ledger is told the same, wherever it stands: in one file, in several, or in PostgreSQL."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from msgspec.structs import astuple

from proxy.billing import adjustments, export_formats, reports, rerating, retention
from proxy.billing.adjustments import AdjustmentConflict, AdjustmentRefused
from proxy.billing.exports import CursorRefused, Export
from proxy.billing.prices import PriceBook
from proxy.billing.records import UsageRecord, to_json
from proxy.billing.rerating import Selection
from tests.billing.sample import NOON, sample
from tests.billing.test_reports import HOUR, at_random, summed
from tests.contracts.ledgers import KINDS, Books, books

DAY = 24 * HOUR
ALL = Selection(0, 2**62)
AT_NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture(params=KINDS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Books:
    """An empty ledger."""
    in_postgres = request.param.endswith("_database")
    return books(request.param, tmp_path, request.getfixturevalue(request.param) if in_postgres else None)


def some(count: int, seed: int) -> list[UsageRecord]:
    """Calls and adjustments of all kinds, on ten days around the end of a month."""
    chance = random.Random(seed)
    return [at_random(number, chance) for number in range(count)]


def by_id(records: Sequence[UsageRecord]) -> list[UsageRecord]:
    return sorted(records, key=lambda record: record.record_id)


def groups(ledger: Books, by: list[Any], **asked: Any) -> dict[tuple[str, ...], tuple[int, ...]]:
    return {tuple(row.group.values()): astuple(row)[1:] for row in reports.report(ledger.bill, by, **asked)}


@pytest.mark.parametrize("seed", range(2))
def test_sums_are_those_of_the_records_whatever_they_are_summed_by(ledger: Books, seed: int) -> None:
    """With adjustments, estimates and calls without a price; some are written twice, and count once."""
    records = some(300, seed)
    ledger.write(records)
    ledger.ship()
    for word in ("project", "key", "model", "operation", "upstream", "tier", "outcome", "day"):
        assert groups(ledger, [word]) == summed(records, word), word
    acme = [record for record in records if record.project == "acme"]
    for word in ("project", "model", "day"):
        assert groups(ledger, [word], project="acme") == summed(acme, word), word
    [(everything, sums)] = groups(ledger, []).items()
    assert (everything, sums) == ((), tuple(map(sum, zip(*summed(records, "project").values(), strict=True))))
    assert all(type(value) is int for value in sums)
    two = groups(ledger, ["project", "tier"])
    assert {tuple(map(sum, zip(*two.values(), strict=True)))} == {sums}


def test_hours_belong_to_the_day_in_which_they_begin_also_where_zones_have_half_hours(ledger: Books) -> None:
    at = int(datetime(2026, 11, 30, tzinfo=UTC).timestamp()) * 1_000_000
    ledger.write(sample(f"{hour}", started_at=at + hour * HOUR + 1) for hour in range(-30, 31))
    for zone, first_hour in (("Asia/Kolkata", 19), ("Asia/Kathmandu", 19), ("America/St_Johns", 4), ("UTC", 0)):
        days = {group[0]: sums[0] for group, sums in groups(ledger, ["day"], timezone=zone).items()}
        begins = 24 - (24 - first_hour) % 24  # the hour of UTC with which a day begins
        before = sum((hour - begins) // 24 == (-30 - begins) // 24 for hour in range(-30, 31))
        assert (sum(days.values()), next(iter(days.values()))) == (61, before), (zone, days)
    assert ("2026-11-30T00:30+05:30",) in groups(ledger, ["hour"], timezone="Asia/Kolkata")
    assert set(groups(ledger, ["month"], timezone="Asia/Tokyo")) == {("2026-11",), ("2026-12",)}


def test_a_report_runs_from_since_to_before_until_by_hours(ledger: Books) -> None:
    ledger.write(sample(f"{hour}", started_at=NOON + hour * HOUR + 5) for hour in (-9_000, -2, -1, 0, 1, 2, 9_000))

    def calls(since: datetime | None, until: datetime | None, project: str | None = None) -> int:
        return sum(row.calls for row in reports.report(ledger.bill, ["hour"], since, until, project=project))

    assert [calls(AT_NOON, None), calls(None, AT_NOON), calls(None, None)] == [4, 3, 7]
    assert calls(AT_NOON, None, "acme") == 4
    assert calls(AT_NOON + timedelta(minutes=59), AT_NOON + timedelta(hours=1, minutes=59)) == 1
    assert reports.report(ledger.bill, [], AT_NOON + timedelta(days=500), None) == []


def test_an_empty_ledger_is_no_error(ledger: Books) -> None:
    ledger.write([])
    assert reports.report(ledger.bill, ["project", "day"]) == []
    assert list(reports.export(ledger.bill)) == []
    assert Export(ledger.bill, None, None).cursor == "start"
    assert reports.find(ledger.bill, "a") is None
    assert list(rerating.rerate(ledger.bill, PriceBook.of(None), ALL)) == []
    assert retention.records_since(ledger.bill) == 0


def test_each_record_is_exported_once_as_it_was_written_and_those_of_a_file_in_their_order(ledger: Books) -> None:
    records = some(1_600, 7)
    ledger.write(records)
    told = list(reports.export(ledger.bill))
    assert by_id(told) == by_id(records)
    if len(ledger.writers) == 1:
        assert told == records
    within = reports.export(ledger.bill, AT_NOON + timedelta(days=2), AT_NOON + timedelta(days=4, hours=1))
    inside = [record for record in records if NOON + 2 * DAY <= record.started_at < NOON + 4 * DAY + HOUR]
    assert by_id(list(within)) == by_id(inside)


def ids(export: Export) -> list[str]:
    return [row[1] for rows in export for row in rows]


def test_an_export_goes_on_behind_the_last_one_with_nothing_twice_or_left_out(ledger: Books) -> None:
    ledger.write(sample(f"{number}") for number in range(2_500))
    first = Export(ledger.bill, None, None)
    told = ids(first)
    ledger.write(sample(f"new-{number}") for number in range(9))
    second = Export(ledger.bill, None, None, first.cursor + "\n")
    assert sorted(ids(second)) == [f"new-{number}" for number in range(9)]
    assert ids(Export(ledger.bill, None, None, second.cursor)) == []
    assert sorted(told) == sorted(f"{number}" for number in range(2_500))


def test_an_export_that_ends_early_goes_on_from_its_last_whole_page(ledger: Books) -> None:
    ledger.write(sample(f"{number}") for number in range(2_500))
    export = Export(ledger.bill, None, None)
    pages = list(islice(export, 2))
    rest = ids(Export(ledger.bill, None, None, export.cursor))
    assert sorted([row[1] for row in pages[0]] + rest) == sorted(f"{number}" for number in range(2_500))


def test_what_the_period_leaves_out_is_behind_the_cursor_all_the_same(ledger: Books) -> None:
    ledger.write(sample(f"{number}", started_at=NOON + number * DAY) for number in range(40))
    export = Export(ledger.bill, AT_NOON + timedelta(days=39), None)
    assert ids(export) == ["39"]
    assert ids(Export(ledger.bill, None, None, export.cursor)) == []


def test_columns_that_nobody_asks_for_are_not_read(ledger: Books) -> None:
    ledger.write([sample("a")])
    [[row]] = Export(ledger.bill, None, None, columns={"record_id", "images"})
    assert [value for value in row if value is not None] == [1, "a", 1]


def test_a_cursor_that_leads_nowhere_is_refused(ledger: Books) -> None:
    ledger.write([sample("a")])
    with pytest.raises(CursorRefused, match="no cursor"):
        Export(ledger.bill, None, None, "yesterday")
    with pytest.raises(CursorRefused, match=f"isn't here \\({'0' * 32}\\)"):
        Export(ledger.bill, None, None, f"{'0' * 32}:1")


def test_the_lines_of_an_export_are_the_same_in_every_format(ledger: Books, tmp_path: Path) -> None:
    """As those of one file that has the same records."""
    records = some(400, 3)
    ledger.write(records)
    plain = books("one_file", tmp_path / "plain", None)
    plain.write(records)
    for name, format_ in export_formats.FORMATS.items():
        told, lines = (
            sorted(b"".join(map(format_, Export(one.bill, None, None, columns=export_formats.READ[name]))).splitlines())
            for one in (ledger, plain)
        )
        assert told == lines, name
    whole = b"".join(map(export_formats.jsonl, Export(ledger.bill, None, None)))
    exported = [json.loads(line) for line in whole.splitlines()]
    exported.sort(key=lambda line: str(line["record_id"]))
    assert exported == [json.loads(msgspec.json.encode(to_json(record))) for record in by_id(records)]


def test_a_record_and_those_of_a_request_are_found(ledger: Books) -> None:
    mine = [sample(name, request_id="q", finished_at=NOON + at) for at, name in enumerate(("a", "b", "adj_1"))]
    ledger.write([*mine, sample("c", request_id="q", project="zeta"), sample("d")])
    assert [reports.find(ledger.bill, name) for name in ("b", "adj_1", "e")] == [mine[1], mine[2], None]
    assert by_id(reports.of_request(ledger.bill, "q", "acme", most=9)) == by_id(mine)
    assert reports.of_request(ledger.bill, "q", "nobody", most=9) == []
    assert reports.of_request(ledger.sources.everywhere(), "q", "zeta", most=9)[0].record_id == "c"


def dearer(usd: str) -> PriceBook:
    rates = {"input_text": Decimal("0.3"), "output_image": Decimal(usd)}
    return PriceBook.of(None, [SimpleNamespace(model="gemini-2.5-flash-image", from_=None, **rates)])


def rerate(ledger: Books, book: PriceBook, selection: Selection = ALL) -> list[UsageRecord]:
    """Writes what differs; the adjustments."""
    found = rerating.rerate(ledger.bill, book, selection, ledger.sources.unshipped_files())
    made = [rerating.adjustment(each, now_us=NOON + DAY, period="2026-11-22") for each in found if each.difference]
    ledger.write(made)
    return made


def test_a_period_priced_anew_is_priced_once_and_again_when_the_price_changes_again(ledger: Books) -> None:
    calls = [sample(f"c{number}", started_at=NOON + number % 7, project=f"p{number % 3}") for number in range(700)]
    calls[0] = sample("c0", cost_usd=None, rates=None)
    ledger.write(calls)
    was = groups(ledger, [])[()][9]
    first = rerate(ledger, dearer("31"))
    assert {record.record_id for record in first} == {f"adj_rerate-c{number}-1" for number in range(700)}
    assert rerate(ledger, dearer("31")) == []
    second = rerate(ledger, dearer("32"), ALL._replace(project="p1", model="gemini-2.5-*"))
    assert {record.record_id for record in second} == {f"adj_rerate-c{number}-2" for number in range(1, 700, 3)}
    assert rerate(ledger, dearer("33"), ALL._replace(model="gemini-3*")) == []
    becomes = was + sum(record.cost_usd or 0 for record in (*first, *second))
    assert groups(ledger, [])[()][9] == becomes
    these = rerating.rerate_these(ledger.bill, dearer("33"), ["c1", "c2", "nothing"])
    assert {name: (each.number, each.difference > 0) for name, each in these.items()} == {
        "c1": (3, True),
        "c2": (2, True),
    }


def test_an_adjustment_is_of_the_record_that_it_corrects_and_a_second_one_counts_once(ledger: Books) -> None:
    ledger.write([sample("a"), sample("z", project="zeta")])
    asked: dict[str, Any] = {"record_id": "adj_1", "project": "acme", "cost_usd": "-0.5", "why": "torn"}
    asked |= {"now_us": NOON, "period": "2026-11-21"}
    everywhere = ledger.sources.everywhere()
    made = adjustments.make(everywhere, **asked, of="a")
    assert (made.key_id, made.model, made.caused_by) == ("k1", "gemini-2.5-flash-image", "a")
    assert adjustments.standing(everywhere, made) is None
    ledger.write([made])
    assert adjustments.confirm(everywhere, made) == (made, True)
    with pytest.raises(AdjustmentConflict):
        adjustments.standing(everywhere, adjustments.make(everywhere, **asked | {"cost_usd": "-1"}, of="a"))
    with pytest.raises(AdjustmentRefused, match="of another project"):
        adjustments.make(everywhere, **asked, of="z")
    with pytest.raises(AdjustmentRefused, match="there is no record 'b'") as refused:
        adjustments.make(everywhere, **asked, of="b")
    assert ("another node has just written" in str(refused.value)) is (ledger.postgres is not None)
    assert rerating.by_hand(ledger.bill, 0) == {"a": -500_000_000}
    assert rerating.by_hand(ledger.bill, NOON + 1) == {}


def test_what_retention_removed_is_told_and_the_sums_stay(ledger: Books) -> None:
    """Files go by the record, PostgreSQL by the month."""
    october = int(datetime(2026, 10, 20, tzinfo=UTC).timestamp()) * 1_000_000
    november = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp()) * 1_000_000
    old = [sample(f"old-{at}", started_at=october + at, finished_at=october + at) for at in range(12)]
    ledger.write([*old, sample("adj_old", started_at=october + 20, finished_at=october + 20)])
    ledger.write(sample(f"new-{at}") for at in range(6))
    before = [groups(ledger, [word]) for word in ("day", "model", "hour")]
    behind_all = Export(ledger.bill, None, None)
    ids(behind_all)
    ledger.remove(november)

    assert [groups(ledger, [word]) for word in ("day", "model", "hour")] == before
    assert sorted(record.record_id for record in reports.export(ledger.bill)) == [f"new-{at}" for at in range(6)]
    since = retention.records_since(ledger.bill)
    assert october + 20 < since <= november
    assert retention.records_since(ledger.sources.everywhere()) == since
    missed = Export(ledger.bill, None, None).missed
    assert sum(removed.through for _, removed in missed) == 13
    assert all(october < removed.before <= november for _, removed in missed)
    assert Export(ledger.bill, AT_NOON, None).missed == []
    assert Export(ledger.bill, None, None, behind_all.cursor).missed == []
    assert list(rerating.rerate(ledger.bill, dearer("31"), ALL._replace(until=november))) == []
    with pytest.raises(AdjustmentRefused, match="were removed"):
        adjustments.make(
            ledger.bill,
            record_id="adj_1", project="acme", cost_usd="1", why="x", of="old-1", now_us=NOON, period="p",
        )  # fmt: skip
