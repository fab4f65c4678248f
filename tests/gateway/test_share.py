"""How workers that accept on one socket see each other. tests/journeys/test_workers.py counts who takes what."""

from __future__ import annotations

import os
import signal

import pytest

from proxy.gateway.share import SLACK, Shares
from tests.gateway.test_heads import GET, Echo
from tests.gateway.wire import door


def test_who_has_more_than_another_holds_back_until_that_one_has_caught_up() -> None:
    shares = Shares(3)
    one, other = shares.of(0), shares.of(2)
    one.tell(1)
    assert not one.holds_back(), "nobody else has begun"
    other.tell(0)
    assert one.holds_back()
    assert not other.holds_back()
    other.tell(1)
    assert not one.holds_back()
    one.tell(SLACK * 10 + 10)
    other.tell(SLACK * 10)
    assert not one.holds_back(), "a small difference is none"
    one.tell(SLACK * 10 + 11)
    assert one.holds_back()


@pytest.mark.parametrize("how", ["closes", "dies"])
def test_nobody_waits_for_one_that_takes_no_more(how: str) -> None:
    shares = Shares(2)
    one, other = shares.of(0), shares.of(1)
    other.tell(0)
    one.tell(5)
    assert one.holds_back()
    if how == "closes":
        other.leave()
    else:
        shares.forget(1)
    assert not one.holds_back()


def test_what_a_process_tells_is_seen_in_the_others() -> None:
    """Also by one that was started later, in place of a dead one."""
    shares = Shares(2)
    mine = shares.of(0)
    mine.tell(3)
    if (child := os.fork()) == 0:
        share = shares.of(1)
        share.tell(1)
        os._exit(int(share.holds_back()))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert mine.holds_back()
    shares.forget(1)
    if (child := os.fork()) == 0:
        share = shares.of(1)
        share.tell(4)
        os.kill(os.getpid(), signal.SIGKILL if share.holds_back() else signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not mine.holds_back()


@pytest.mark.anyio
async def test_a_connection_that_another_one_should_take_and_does_not_is_served_all_the_same() -> None:
    """The other hangs: it has told that it has none, and takes none."""
    shares = Shares(2)
    shares.of(1).tell(0)
    async with door(Echo()) as gateway:
        gateway.acceptor.share = share = shares.of(0)
        share.tell(0)
        clients = [await gateway.connect() for _ in range(20)]
        for client in clients:
            client.writer.write(GET)
            assert (await client.response()).body == b"ok"
        assert share.holds_back()
