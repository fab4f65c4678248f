"""A pool whose upstream, server or ledger is lost in mid-call: who is asked then, and what is on the bill."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2

from tests.journeys.pooled import Pool, Upstream, calling, pools, quota
from tests.journeys.watching import locked, open_leases, until
from tests.namespaces import Namespace

SAME = {"priority": 0}


def test_an_upstream_whose_packets_vanish_costs_only_the_calls_that_it_had(
    tmp_path: Path, far_machine: Namespace
) -> None:
    """Nobody tells that it is gone: a connection to it is given up after 10 s, and its calls go elsewhere then."""
    far, near = Upstream("far", listener=far_machine.listening()), Upstream("near")
    pool = Pool("black-hole", [far, near])
    prompts = [f"call {number}" for number in range(200)]
    with pools(tmp_path, pool, more={"black-hole": {"far": SAME, "near": SAME}}), ThreadPoolExecutor(9) as threads:
        far.answers.clear()
        had = [threads.submit(pool.ask, f"had {number}") for number in range(2)]
        until(lambda: len(far.asked) + len(near.asked) == 2 and far.asked, "it has one of them")
        far_machine.black_hole()
        load = threads.submit(pool.ask_many, prompts, 6)
        assert set(load.result()) == {200}
        assert Counter(asked.prompt for asked in near.asked if asked.prompt.startswith("call")) == Counter(prompts)
        (line,) = pool.log("upstream_out")
        assert (line["upstream"], line["why"]) == ("black-hole-far", "unreachable")
        far_machine.restore()
        far.answers.set()
        assert {call.result().status_code for call in had} == {200}, "TCP sends again what was lost"
        ended = Counter(tuple(attempts) for attempts in pool.attempts())
        assert ended["far unreachable", "near answered"] >= 3
        assert set(ended) == {("far answered",), ("near answered",), ("far unreachable", "near answered")}
        assert pool.billed() == pool.accounts()


def test_killed_after_a_failover_the_call_is_unsettled_where_it_went(tmp_path: Path) -> None:
    a, b = Upstream("a", quota("17s")), Upstream("b")
    pool = Pool("alice", [a, b])
    b.answers.clear()
    with pools(tmp_path, pool) as stand, calling(pool):
        until(lambda: b.asked, "the second was asked")
        stand.close()
        stand.start()
        (record,) = pool.records()
        assert (record.outcome, record.upstream, record.estimated) == ("unsettled", "alice-b", True)
        assert open_leases(stand.data_dir) == 0


def test_what_can_not_be_written_down_at_a_failover_goes_nowhere_and_is_the_first_upstreams(tmp_path: Path) -> None:
    a, b = Upstream("a", quota("17s")), Upstream("b")
    pool = Pool("alice", [a, b])
    refused = 'weighbridge_attempts_total{outcome="rate_limited"} 1.0'
    a.answers.clear()
    with pools(tmp_path, pool) as stand, ThreadPoolExecutor(1) as thread:
        asking = thread.submit(pool.ask)
        until(lambda: a.asked, "the first was asked")
        with locked(stand.data_dir / "ledger/0.db"):
            assert until(lambda: pool.ask().status_code == 503, "the server has noticed")
            a.answers.set()
            until(lambda: refused in httpx2.get(f"{stand.admin_url}/metrics").text, "its refusal was read")
        answer = asking.result(30)
        assert (answer.status_code, answer.headers["x-weighbridge-refused"]) == (503, "LEDGER_UNAVAILABLE")
        (record,) = pool.records()
        assert (record.outcome, record.upstream, record.cost_usd) == ("upstream_error", "alice-a", 0)
        assert pool.attempts() == [["a rate_limited"]]
        assert b.asked == []
