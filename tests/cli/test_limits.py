"""`weighbridge limits`, as typed, where no server runs: what the ledger says is used."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from pathlib import Path

import pytest

from proxy.billing.ledger import Ledger
from proxy.billing.periods import Days
from proxy.config.limits import parse_all
from proxy.config.schema import Storage
from proxy.store.database import open_database
from proxy.tenants import keys, projects
from tests.billing.sample import sample
from tests.cli.conftest import Weighbridge

DATA = "weighbridge-data"


@pytest.fixture(autouse=True)
def _limited(weighbridge: Weighbridge, tmp_path: Path) -> None:
    """A project with limits and a key with one of its own, and five calls of today, three of them just now."""
    database, now = open_database(Storage(data_dir=tmp_path / DATA)), time.time_ns() // 1000
    limits = parse_all(["rpm=60", "rpd=1500", "ipm=5,model=*-image*,shadow"])
    projects.create(database, "acme", now, actor="test", limits=limits)
    of_key = parse_all(["tpm=1000"])
    key = keys.create(database, "acme", "laptop", now, secrets.randbelow, actor="test", limits=of_key)[0]
    today = Days("America/Los_Angeles").name(now)

    async def fill() -> None:
        ledger = Ledger.open(tmp_path / DATA, now_us=lambda: now, on_broken=pytest.fail, ballast_bytes=4096)
        for number in range(5):
            at = now - (number // 3) * 100_000_000
            await ledger.write(sample(f"{number}", key_id=key.id, started_at=at, finished_at=at, period=today))
        await ledger.close()

    asyncio.run(fill())


def test_what_is_used_is_read_from_the_ledger(weighbridge: Weighbridge) -> None:
    result = weighbridge("limits", "show", "acme")

    assert result.exit_code == 0, result.output
    heads, *lines = result.stdout.splitlines()
    assert heads.split("  ")[0] == "LIMIT"
    table = {line.split()[0]: line for line in lines}
    assert table["rpm"].split()[1:5] == ["project", "*", "3", "60"]
    assert table["rpd"].split()[1:5] == ["project", "*", "5", "1,500"]
    assert table["rpd"].rstrip().endswith(("PST", "PDT"))
    assert table["ipm"].split()[1:6] == ["(shadow)", "project", "*-image*", "3", "5"]
    assert "(laptop)" in table["tpm"]
    assert " 21 " in table["tpm"]


def test_programs_get_the_same_document_as_from_a_server(weighbridge: Weighbridge) -> None:
    told = json.loads(weighbridge("limits", "show", "acme", "--json").stdout)

    assert {"project", "counted_in", "day", "day_ends_at", "limits"} == told.keys()
    assert {limit["kind"]: limit["used"] for limit in told["limits"]} == {"rpm": 3, "rpd": 5, "ipm": 3, "tpm": 21}


def test_looking_writes_nothing_to_the_ledger(weighbridge: Weighbridge, tmp_path: Path) -> None:
    file = tmp_path / DATA / "ledger" / "0.db"
    before = file.read_bytes()
    weighbridge("limits", "show", "acme")
    assert file.read_bytes() == before


def test_a_project_without_limits_says_how_to_set_one(weighbridge: Weighbridge) -> None:
    weighbridge("project", "create", "bobs")

    assert weighbridge("limits", "show", "bobs").stdout.startswith("Project bobs and its keys have no limits.")


def test_an_unknown_project_is_one_sentence(weighbridge: Weighbridge) -> None:
    result = weighbridge("limits", "show", "acne")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: there is no project 'acne'; did you mean 'acme'?\n"


def test_where_redis_has_the_rest_it_says_so(weighbridge: Weighbridge, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not among what programs read."""
    monkeypatch.setenv("WEIGHBRIDGE_STORAGE__REDIS_URL", "redis://127.0.0.1:1")
    result = weighbridge("limits", "show", "acme", "--json")
    assert "Redis has" in result.stderr
    assert json.loads(result.stdout)["limits"]
