"""Our bill against Google's, line by line."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from proxy.billing.records import UsageRecord
from proxy.control.google_export import Row
from proxy.control.reconcile import Line, reconcile
from tests.billing.sample import NOON, sample

DAY = date(2026, 11, 21)
CENT = Decimal("0.01")
MODEL = "gemini-2.5-flash-image"


def row(cost: str | None = "0.0336021", first: date = DAY, model: str = MODEL, **counts: Any) -> Row:
    values = {"requests": None, "input_tokens": None, "output_tokens": None} | counts
    return Row(first, values.pop("last", first), model, None if cost is None else Decimal(cost), **values)


def lines(rows: list[Row], *records: UsageRecord) -> list[Line]:
    return reconcile(rows, records, CENT)


def test_what_is_alike_to_the_tolerance_does_not_differ() -> None:
    [line] = lines([row("0.03"), row("0.0136", model=MODEL)], sample("a"))
    assert (line.first, line.model, line.differs) == (DAY, MODEL, ())
    [line] = lines([row("0.0437")], sample("a"))
    assert line.differs == ("cost_usd",)


def test_tokens_and_requests_differ_where_the_export_tells_them_and_they_are_others() -> None:
    assert lines([row(requests=1, input_tokens=7, output_tokens=1120)], sample("a"))[0].differs == ()
    [line] = lines([row(None, requests=2, input_tokens=8, output_tokens=1)], sample("a"))
    assert line.differs == ("requests", "input_tokens", "output_tokens")


def test_what_only_one_side_has_differs() -> None:
    other = row("5", model="gemini-3.8-flash")
    mine, google = lines([other], sample("a"))
    assert (mine.model, mine.google.cost_usd, mine.differs) == (MODEL, None, ("cost_usd",))
    assert (google.model, google.ours.calls, google.differs) == ("gemini-3.8-flash", 0, ("cost_usd",))


def test_days_are_those_of_los_angeles() -> None:
    """Midnight there is at 08:00 UTC in November."""
    midnight = int(datetime(2026, 11, 21, 8, tzinfo=UTC).timestamp()) * 1_000_000
    found = lines(
        [row(first=date(2026, 11, 20)), row()],
        sample("a", started_at=midnight - 1, finished_at=midnight),
        sample("b", started_at=midnight, finished_at=midnight),
        sample("c", started_at=midnight - 86_400_000_000),
        sample("out", started_at=midnight + 86_400_000_000),
    )
    assert [(line.first.day, line.ours.calls) for line in found] == [(20, 2), (21, 1)]
    assert [line.ours.causes["midnight"].record_ids for line in found] == [["a", "c"], ["b"]]


def test_an_export_that_tells_no_days_is_held_against_the_ledger_as_a_whole() -> None:
    [line] = lines(
        [row(first=date(2026, 11, 1), last=date(2026, 11, 30))],
        sample("a"),
        sample("b", started_at=NOON - 5 * 86_400_000_000),
    )
    assert (line.first.day, line.last.day, line.ours.calls) == (1, 30, 2)


def test_calls_that_could_explain_a_difference_are_named_by_why() -> None:
    [line] = lines(
        [row("9")],
        sample("plain"),
        sample("e", estimated=True, outcome="truncated"),
        sample("u", cost_usd=None, rates={}),
        sample("g", outcome="client_gone"),
        *(sample(f"d{number}", estimated=True, outcome="unsettled", cost_usd=2) for number in range(9)),
    )
    causes = line.ours.causes
    assert causes["truncated"].record_ids == ["e"]
    assert (causes["unsettled"].calls, causes["unsettled"].cost_usd) == (9, 18)
    assert causes["unsettled"].record_ids == [f"d{number}" for number in range(5)]
    assert (causes["estimated"].calls, causes["unpriced"].record_ids) == (10, ["u"])
    assert causes["client_gone"].record_ids == ["g"]


def test_adjustments_are_told_and_held_against_nothing() -> None:
    [line] = lines([row()], sample("a"), sample("adj_1", kind="adjustment", cost_usd=-5_000_000_000))
    assert (line.ours.calls, line.ours.adjustments_cost_usd, line.differs) == (1, -5_000_000_000, ())


def test_a_call_counts_for_the_model_whose_rates_it_was_charged_at() -> None:
    [line] = lines([row(model="gemini-3.8-flash")], sample("a", model="alias", priced_as="gemini-3.8-flash"))
    assert (line.model, line.differs) == ("gemini-3.8-flash", ())
