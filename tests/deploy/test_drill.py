"""The drill: things go wrong in a real run, a real Prometheus scrapes it, and the deployed rules tell just that."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from proxy.store.database import upgrade
from tests.clock import Clock
from tests.deploy.drill import Drill
from tests.deploy.prometheus_server import Prometheus
from tests.deploy.scenes import ASK, OUT_OF_QUOTA, UNPRICED, Scene, with_projects
from tests.journeys.pooled import KEY, Upstream
from tests.journeys.watching import DEADLINE_S, PICTURE, body
from tests.postgres_servers import PASSWORD, PostgresServer
from tests.stand import Weighbridge, emulator

NOON = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
"""In Los Angeles, where a day's quota is back at midnight."""
PICTURE_USD = 0.068323
PICTURES = 25
"""That a budget has room for: each is a twenty-fifth of it."""

MISTAKES = (
    ("bob", ASK),
    ("bob", ASK),  # over his limit
    ("nobody", ASK),
    ("dora", "/v1beta/nothing:here"),
    ("dora", ASK, body("[[status=500]] hello")),
)
"""One a minute, by turns: what tenants get wrong, and what Google does now and then, is nobody's alarm."""


@dataclass
class Stage:
    """A node with a database, two upstreams for one model, and one for a model without a price."""

    scene: Scene
    first: Upstream
    database: PostgresServer
    mistakes: deque[tuple[Any, ...]] = field(default_factory=lambda: deque(MISTAKES))

    def quiet_minute(self) -> None:
        """A call that goes well, and one that doesn't."""
        assert self.scene.ask("dora", ASK).status_code == 200
        self.scene.ask(*self.mistakes[0])
        self.mistakes.rotate()

    def picture(self) -> None:
        assert self.scene.ask("alice", PICTURE).status_code == 200


@pytest.fixture
def stage(own_postgres: PostgresServer, wall_clock: Clock, tmp_path: Path, at_end: ExitStack) -> Stage:
    client = at_end.enter_context(httpx2.Client(timeout=DEADLINE_S, trust_env=False))
    main = at_end.enter_context(emulator(keys=(KEY,)))
    first, odd = Upstream("first"), Upstream("odd")
    for upstream in (first, odd):
        at_end.enter_context(upstream.listening())
    storage = {"database_url": own_postgres.database().url, "database_password_env": "DATABASE_PASSWORD"}
    upstreams = [
        {"name": "first", "base_url": first.base_url, "models": ["gemini-3.8-flash"], "projects": ["alice"]},
        {"name": "odd", "base_url": odd.base_url, "models": ["gemini-next-*"]},
        {"name": "main", "base_url": main, "models": ["gemini-3*"], "priority": 1},
    ]
    environment = {"DATABASE_PASSWORD": PASSWORD, **wall_clock.environment}
    stand = Weighbridge(
        tmp_path, "", {"storage": storage, "upstreams": upstreams}, upstream_key=KEY, environment=environment
    )
    at_end.callback(stand.close)
    wall_clock.set(NOON)
    upgrade(stand.storage)
    limits = {"alice": (f"usd={PICTURES * PICTURE_USD:.4f},per=month",), "bob": ("rpm=1",), "dora": ()}
    made = with_projects(stand, limits)
    stand.start()
    return Stage(Scene(stand, made, client), first, own_postgres)


def test_alerts_tell_what_went_wrong_and_nothing_else(
    stage: Stage, wall_clock: Clock, start_prometheus: Callable[..., Prometheus], tmp_path: Path
) -> None:
    """Twelve minutes of which nothing is told. Then an upstream is out of quota, a project over 80 % of its budget, a
    model has no price, and PostgreSQL is away: each is told by its own alert, and no other fires at any time."""
    alice = 'weighbridge_budget_used_ratio{project="alice"}'
    for _ in range(19):
        stage.picture()
    prometheus = start_prometheus([stage.scene.stand.admin_url], interval="300ms")
    prometheus.told(f"{alice} > 0.75 < 0.8")
    drill = Drill(wall_clock, prometheus)
    for _ in range(12):
        drill.minute(stage.quiet_minute)
    quiet = drill.minutes - 1

    stage.first.says = OUT_OF_QUOTA
    assert stage.scene.ask("alice", ASK).status_code == 200
    assert stage.scene.ask("dora", UNPRICED).status_code == 200
    stage.database.stop()
    for _ in range(2):
        drill.minute(stage.picture)
    for _ in range(12):
        drill.minute(stage.quiet_minute)
    prometheus.told(f"{alice} > 0.8 < 0.85")
    for _ in range(2):
        drill.minute(stage.quiet_minute)

    (up,) = prometheus.query('up{job="weighbridge"}')
    told = [
        {"alertname": "WeighbridgeUpstreamCoolingDown", "upstream": "first"},
        {"alertname": "WeighbridgeBudgetNearlyUsed", "project": "alice"},
        {"alertname": "WeighbridgeUnpricedModel", "model": "other"},
        {"alertname": "WeighbridgeLedgerLag", "instance": up.labels["instance"]},
    ]
    warnings = [{**labels, "severity": "warning"} for labels in told]
    drill.fired(tmp_path, {quiet: [], drill.minutes - 1: warnings})
