"""Limit counters from the ledger: what a new process knows of the day and of the last minute."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.billing.ledger import Ledger
from proxy.billing.periods import Days
from proxy.billing.records import UsageRecord
from proxy.control import rebuild
from proxy.limits.interface import Counter
from tests.billing.sample import NOON, sample
from tests.billing.test_reports import written
from tests.limits.demand import counter

TODAY, YESTERDAY = "2026-11-21", "2026-11-20"
S = 1_000_000


def at(seconds_ago: int, **fields: object) -> UsageRecord:
    began = NOON - seconds_ago * S
    common = {"project": "alice", "key_id": "key_1", "model": "gemini-3-pro-image", "period": Days("UTC").name(began)}
    return sample("", started_at=began, finished_at=began + S, **common | fields)


@pytest.fixture
async def files(tmp_path: Path) -> list[Path]:
    """A ledger file of yesterday's and today's calls."""
    ledger = Ledger.open(tmp_path, now_us=lambda: NOON, on_broken=lambda broken: None, ballast_bytes=0)
    rows = [
        *(at(50_000) for _ in range(3)),
        *(at(30_000) for _ in range(4)),
        at(20_000, project="bob"),
        at(10_000, key_id="key_2", model="gemini-3.8-flash"),
        at(62, prompt_token_count=1000, images=9),
        at(59, prompt_token_count=100, images=2),
        at(30, prompt_token_count=20, images=1, key_id="key_2"),
        at(5, prompt_token_count=None, images=0, estimated=True, rates={"input_text": (7, 1), "output_image": (9, 1)}),
        at(4, kind="adjustment", prompt_token_count=None),
    ]
    for number, row in enumerate(rows):
        row.record_id = f"record {number}"
        await ledger.write(row)
    await ledger.close()
    return [tmp_path / "ledger" / "0.db"]


def held(files: list[Path], counter: Counter, day: str = TODAY) -> Mapping[int, int]:
    return rebuild.history(files, Days("UTC"), NOON, lambda: 0)(counter, day, NOON // 1000)


async def test_the_days_calls_are_counted_by_project_key_and_models(files: list[Path]) -> None:
    """Of today alone, and no adjustment among them."""
    assert sum(held(files, counter("rpd", 9)).values()) == 9
    assert sum(held(files, counter("rpd", 9, key_id="key_2")).values()) == 2
    assert sum(held(files, counter("rpd", 9, project="bob")).values()) == 1
    assert sum(held(files, counter("rpd", 9), YESTERDAY).values()) == 0


@pytest.mark.parametrize("wrong_s", [0, 12 * 3600 - 1, 13 * 3600, 90 * 86_400, -3 * 365 * 86_400])
async def test_the_day_that_a_clock_may_be_set_to_is_known(files: list[Path], wrong_s: int) -> None:
    """Else a clock that is put right after a start, by an hour or by years, has a whole day's calls made once more."""
    now_us = NOON + wrong_s * S
    history = rebuild.history(files, Days("UTC"), now_us, lambda: 0)
    assert sum(history(counter("rpd", 9), TODAY, now_us // 1000).values()) == 9


async def test_near_midnight_the_next_day_is_known(files: list[Path]) -> None:
    history = rebuild.history(files, Days("UTC"), NOON - 12 * 3600 * S - S, lambda: 0)
    assert sum(history(counter("rpd", 9), TODAY, NOON // 1000).values()) == 9


async def test_the_last_minute_is_known_by_the_second(files: list[Path]) -> None:
    """A call whose usage nobody learned counts as what it is billed at."""
    now_s = NOON // S
    assert held(files, counter("rpm", 9)) == {now_s - 59: 1, now_s - 30: 1, now_s - 5: 1}
    assert held(files, counter("tpm", 9)) == {now_s - 59: 100, now_s - 30: 20, now_s - 5: 7}
    assert held(files, counter("ipm", 9)) == {now_s - 59: 2, now_s - 30: 1, now_s - 5: 1}
    assert held(files, counter("ipm", 9, key_id="key_2")) == {now_s - 30: 1}
    assert held(files, counter("concurrency", 9)) == {}


async def test_the_last_minute_is_counted_for_a_minute(files: list[Path]) -> None:
    """Also where its calls seem to come yet: the clock was an hour ahead when they were made."""
    passed_s = 0.0
    history = rebuild.history(files, Days("UTC"), NOON - 3600 * S, lambda: passed_s)
    began_ms = NOON // 1000 - 3_600_000
    passed_s = 60.999
    assert sum(history(counter("rpm", 9), TODAY, began_ms + 60_999).values()) > 0
    passed_s = 61.0
    assert history(counter("rpm", 9), TODAY, began_ms + 61_000) == {}


@pytest.mark.parametrize("ahead_s", [-3600, -1, 90, 86_400])
async def test_the_last_minute_is_known_whatever_the_stores_clock_says(files: list[Path], ahead_s: int) -> None:
    """Redis counts minutes by its own clock, which may be far from that of who wrote the ledger."""
    history = rebuild.history(files, Days("UTC"), NOON, lambda: 0)
    now_s = NOON // S + ahead_s
    assert history(counter("rpm", 9), TODAY, now_s * 1000) == {now_s - 59: 1, now_s - 30: 1, now_s - 5: 1}


async def test_what_an_earlier_process_left_is_settled_as_the_ledger_has_it(files: list[Path]) -> None:
    """A lease without a record never went up; one whose usage nobody learned keeps its estimate."""
    settled, usd = rebuild.settled(files), {"usd": 33_602_100, "usd_per_10min": 33_602_100}
    assert settled("record 10") == {"tpm": 100, "ipm": 2} | usd
    assert settled("record 12") == usd
    assert settled("never written") is None


async def test_of_a_calls_attempts_the_last_took_what_its_record_says(tmp_path: Path) -> None:
    """All before were refused. An attempt of which nothing is recorded never went up."""
    refused = {"upstream": "other", "outcome": "rate_limited", "ms": 3}
    answered = {"upstream": "google", "outcome": "answered", "ms": 900}
    files = await written(
        tmp_path,
        sample("one", attempts=None, prompt_token_count=100, images=2, cost_usd=7),
        sample("two", attempts=[refused, answered], prompt_token_count=100, images=2, cost_usd=7),
    )
    settled, last = rebuild.settled(files), {"tpm": 100, "ipm": 2, "usd": 7, "usd_per_10min": 7}
    assert settled("two.1") == {"tpm": 0, "ipm": 0, "usd_per_10min": 0}
    assert settled("two.2") == settled("one.1") == settled("one") == last
    assert settled("two.x") == last
    assert settled("never.1") is None


def of_google(kind: str, model: str = "gemini-3-pro-image", upstream: str = "google") -> Counter:
    """As gateway/quotas.py makes them."""
    project = f"@{upstream}"
    return Counter(f"{{{project}}}:{kind}:{model}", kind, 9, project, model=model)


async def test_an_upstreams_own_counters_are_those_of_the_records_that_name_it(tmp_path: Path) -> None:
    """Of whichever project, by model, however that is spelt; money over all models."""
    rows = [
        at(590, cost_usd=10**12, project="bob"),
        at(300, cost_usd=5, model="gemini-3.8-flash"),
        at(300, cost_usd=None),
        at(62, prompt_token_count=1000, images=9, cost_usd=0),
        at(59, prompt_token_count=100, images=2, cost_usd=3, model="Gemini-3-PRO-image"),
        at(30, prompt_token_count=20, images=1, cost_usd=4, project="bob"),
        at(30, prompt_token_count=20, images=1, cost_usd=4, upstream="other"),
        at(612, cost_usd=99),
        at(3, kind="adjustment", cost_usd=99),
    ]
    for number, row in enumerate(rows):
        row.record_id = f"{number}"
    files, now_s = await written(tmp_path, *rows), NOON // S
    spend = Counter("{@google}:usd_per_10min", "usd_per_10min", 9, "@google")
    assert held(files, of_google("rpm")) == {now_s - 59: 1, now_s - 30: 1}
    assert held(files, of_google("tpm")) == {now_s - 59: 100, now_s - 30: 20}
    assert held(files, of_google("ipm", upstream="other")) == {now_s - 30: 1}
    assert held(files, of_google("rpd")) == {now_s: 6}
    assert held(files, of_google("rpd", "gemini-3.8-flash")) == {now_s: 1}
    assert held(files, spend) == {now_s - 590: 10**12, now_s - 300: 5, now_s - 59: 3, now_s - 30: 4}
    assert held(files, of_google("rpm", "(others)")) == {}


async def test_what_was_spent_is_known_for_ten_minutes(tmp_path: Path) -> None:
    """And counted by how long ago it was, wherever the store's clock stands."""
    records = [at(400, cost_usd=5), at(59, cost_usd=3)]
    for number, record in enumerate(records):
        record.record_id = f"{number}"
    files = await written(tmp_path, *records)
    spend = Counter("{@google}:usd_per_10min", "usd_per_10min", 9, "@google")
    passed_s = 0.0
    history = rebuild.history(files, Days("UTC"), NOON, lambda: passed_s)
    far_s = NOON // S + 86_400
    assert history(spend, TODAY, far_s * 1000) == {far_s - 400: 5, far_s - 59: 3}
    passed_s = 600.0
    assert history(spend, TODAY, (far_s + 600) * 1000) == {far_s - 400: 5, far_s - 59: 3}
    assert history(of_google("rpm"), TODAY, (far_s + 600) * 1000) == {}
    passed_s = 610.0
    assert history(spend, TODAY, (far_s + 610) * 1000) == {}


async def test_an_upstreams_day_is_googles_whatever_the_tenants_is(tmp_path: Path) -> None:
    """It begins at midnight in Los Angeles, which is eight in the morning in UTC."""
    began = NOON - 4 * 3600 * S
    records = [
        sample(f"{number}", started_at=began + offset * S, model="gemini-3.8-flash")
        for number, offset in enumerate((-3600, -1, 0, 1))
    ]
    files = await written(tmp_path, *records)
    rpd = of_google("rpd", "gemini-3.8-flash")
    for now_us, day, known in (
        (NOON, TODAY, 2),
        (began + S, TODAY, 2),
        (began + S, YESTERDAY, 2),
        (NOON, YESTERDAY, 0),
    ):
        for zone in ("UTC", "Asia/Tokyo", "America/Los_Angeles"):
            history = rebuild.history(files, Days(zone), now_us, lambda: 0)
            assert sum(history(rpd, day, now_us // 1000).values()) == known


async def test_what_was_spent_is_known_by_day_month_and_ever(tmp_path: Path) -> None:
    """And near midnight of the day before, or the month, as the clock may be set back yet."""
    midnight = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp()) * S
    times = {"old": midnight - 40 * 86_400 * S, "before": midnight - S, "after": midnight, "later": midnight + 60 * S}
    records = [sample(name, started_at=at, cost_usd=10**number) for number, (name, at) in enumerate(times.items())]
    files = await written(tmp_path, *records)

    def spent(now_us: int) -> dict[str, int]:
        return {of.period: of.usd for of in rebuild.spent(files, Days("UTC"), now_us)}

    assert spent(midnight + 3600 * S) == {
        "2026-11-30": 10, "2026-11": 10, "2026-12-01": 1100, "2026-12": 1100, "total": 1111,
    }  # fmt: skip
    assert spent(midnight + 12 * 3600 * S) == {"2026-12-01": 1100, "2026-12": 1100, "total": 1111}


async def test_of_a_worker_that_does_not_live_its_file_tells_what_it_spent_and_what_its_open_calls_may(
    tmp_path: Path,
) -> None:
    """Also while it is frozen, and holds its file open; of those who live nothing is told, nor of another project."""
    ledger = Ledger.open(tmp_path, "1", now_us=lambda: NOON, on_broken=lambda broken: None, ballast_bytes=0)
    await ledger.write(at(10, cost_usd=5))
    await ledger.write(sample("of bob", project="bob", started_at=NOON, cost_usd=1))
    await ledger.open_lease(sample("open", project="alice", started_at=NOON, period=TODAY, cost_usd=20))
    tells = rebuild.OnDisk(tmp_path, Days("UTC"), lambda: NOON)
    found = tells("alice", set())
    assert found.keys() == {ledger.file_id}
    sums = dict.fromkeys((TODAY, "2026-11", "total"), 0)
    for one in found[ledger.file_id]:
        assert one.project == "alice"
        sums[one.period] = sums.get(one.period, 0) + one.usd
    assert {of: usd for of, usd in sums.items() if usd} == dict.fromkeys((TODAY, "2026-11", "total"), 25)
    assert tells("alice", {ledger.file_id}) == {}
    await ledger.close()
