"""Two nodes of two workers each, haproxy before them, PostgreSQL and Redis behind: served whatever goes away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import uvloop

from tests.fleet.run import Load, Run
from tests.haproxy_servers import Haproxy
from tests.postgres_servers import PostgresServer
from tests.proof import Proof, sized

SEED = 1


def test_a_fleet_serves_and_bills_each_call_whatever_goes_away(
    own_postgres: PostgresServer, start_haproxy: Callable[..., Haproxy], tmp_path: Path, proof: Proof
) -> None:
    """PostgreSQL stops, Redis stops, Redis fails over, a worker is killed, a node is killed and comes back: known keys
    are served all the time (while Redis is away: all that have no budget), the ledger is the upstream's own account,
    and limits are over by no more than the policy says."""
    outage_s = float(sized(3, 30)), float(sized(2, 15))
    run = Run(tmp_path, own_postgres, start_haproxy, Load(SEED, sized(2000, 20_000), sized(75, 100)), outage_s)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        verdict = runner.run(run.run())
    figures = verdict.figures()
    print(json.dumps(figures, indent=2))
    assert verdict.failures() == []
    assert verdict.idle() == []
    proof(**figures)
