"""After any history of calls, crashes, restarts and faults the counters equal what ledger and open leases say.

And each call that went up is in the ledger once, with the outcome that it had.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter as Tally
from pathlib import Path

import pytest
import uvloop
from hypothesis.stateful import run_state_machine_as_test

from proxy.billing import ledger as ledgers
from proxy.billing.prices import PriceBook
from tests.contracts.bookkeeping import FailingFile, S
from tests.contracts.books import EVENING_US, Books, InMemory, InRedis
from tests.proof import Proof, at_random, sized


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return PriceBook.load()


def hold_against_what_was_done(
    machine: type[Books], examples: int, steps: int, book: PriceBook, tmp_path: Path, proof: Proof
) -> None:
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        patch.setattr(ledgers, "LedgerFile", FailingFile)
        machine.clock = [EVENING_US]
        patch.setattr(time, "time", lambda: machine.clock[0] / S)  # fakeredis's
        machine.folders, machine.loop, machine.book, machine.done = tmp_path, runner.get_loop(), book, Tally()
        run_state_machine_as_test(machine, settings=at_random(examples, stateful_step_count=steps))
    proof(histories=examples, **dict(sorted(machine.done.items())))


def test_books_in_memory_agree_after_any_history(book: PriceBook, tmp_path: Path, proof: Proof) -> None:
    hold_against_what_was_done(InMemory, sized(12, 2_000), sized(30, 50), book, tmp_path, proof)


def test_books_in_redis_agree_after_any_history(book: PriceBook, tmp_path: Path, proof: Proof) -> None:
    hold_against_what_was_done(InRedis, sized(8, 500), sized(25, 40), book, tmp_path, proof)
