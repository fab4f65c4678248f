"""Records shipped to a real PostgreSQL: each once, whole, and summed with what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.billing.sample import NOON, sample
from tests.billing.shipped import (
    assert_sums_are_those_of_the_records,
    hours_in,
    hours_of,
    ledger_database,
    records_in,
    records_of,
    ship_all,
)
from tests.billing.test_reports import written
from tests.postgres_servers import PostgresDatabase

pytestmark = pytest.mark.anyio


async def test_a_record_is_in_postgresql_as_it_is_in_the_file(tmp_path: Path, postgres: PostgresDatabase) -> None:
    database = ledger_database(postgres)
    [path] = await written(
        tmp_path,
        sample("a", service_tier="priority", cost_usd=None, hint="Zoë 🎈"),
        sample("b", estimated=True, outcome="truncated", usage=None, total_token_count=None, thoughts_token_count=4),
        sample("c", kind="adjustment", operation="adjustment", cost_usd=-(2**53) - 1, key_id="", model="", images=0),
        sample("d", started_at=NOON + 3_600_000_000, response_bytes=2**62),
    )
    ship_all(database, path)
    assert records_in(database) == records_of(path)
    assert hours_in(database) == hours_of(path)
    assert_sums_are_those_of_the_records(database)
