"""One upstream after the other over real sockets: who is asked, how often, with what, and whose answer it is."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import weakref

import pytest

from proxy.errors import NoUpstream, ProxyRefused, Reason, Sent, UpstreamFailed
from proxy.gateway.intake import ClientGone
from proxy.upstreams.attempts import LONGEST_S, MOST
from proxy.upstreams.health import FAILURES, Why
from proxy.upstreams.transport import Timeouts
from tests.upstreams.origin import OK, Peer
from tests.upstreams.pooled import (
    BAD_KEY,
    FREE,
    METERED,
    Body,
    Ledger,
    Part,
    error,
    hangs_up,
    hangs_up_early,
    out_of_quota,
    says,
    standing,
    stands_still,
)
from tests.upstreams.steady import MODEL, quota

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("refusal", "why"),
    [
        (out_of_quota("17s"), Why.RATE_LIMITED),
        (error(429, "Resource has been exhausted (e.g. check quota)."), Why.RATE_LIMITED),
        (error(503, "The model is overloaded. Please try again later."), Why.OVERLOADED),
        (BAD_KEY, Why.CREDENTIAL_REFUSED),
        (error(401), Why.CREDENTIAL_REFUSED),
        (error(403, "x", {"reason": "SERVICE_DISABLED"}), Why.CREDENTIAL_REFUSED),
        (b"HTTP/1.1 429 X\r\ncontent-length: 6\r\n\r\n<html>", Why.RATE_LIMITED),
        (b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n", Why.OVERLOADED),
    ],
)
async def test_an_upstream_that_is_out_is_told_and_the_next_one_asked_the_same(refusal: bytes, why: Why) -> None:
    scales = Ledger()
    async with await standing(says(refusal), says(OK)) as stand:
        answer = await stand.send(scales)
        assert (answer.upstream.name, answer.response.status, answer.error) == ("b", 200, None)
        assert scales.told == [("refused", f"a {why}"), ("answered", "b answered")]
        assert scales.went_up == 2
        assert (stand.why("a"), stand.why("b")) == (why, None)
        (_, first, body), (_, second, again) = stand.requests
        assert body == again == b"{}"
        assert b"x-a: 1\r\n" in first
        assert first.replace(b"key-of-a", b"key-of-b").split(b"\r\n", 2)[2] == second.split(b"\r\n", 2)[2], (
            "nothing differs but host and credential"
        )


@pytest.mark.parametrize("status", [400, 403, 404, 408, 413, 500, 502, 504, 529, 302])
async def test_any_other_error_is_the_answer_and_takes_nothing_out(status: int) -> None:
    scales = Ledger()
    async with await standing(says(error(status)), says(OK)) as stand:
        answer = await stand.send(scales)
        assert answer.error is not None
        assert (answer.upstream.name, answer.error.status) == ("a", status)
        assert scales.told == [("answered", "a answered")]
        assert stand.why("a") is None
        assert stand.asked == ["a"]


@pytest.mark.parametrize("status", [429, 503, 401])
async def test_a_refusal_whose_words_never_end_does_not_hold_up_the_call(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its status says enough. With the idle timeout alone, 20 minutes a byte, the call would wait for days."""
    monkeypatch.setattr("proxy.upstreams.error_answer.LONGEST_S", 0.3)

    async def drips(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 %d X\r\ncontent-length: 9999\r\n\r\n" % status)
        with contextlib.suppress(ConnectionError):
            while True:
                await peer.say(b"x")
                await asyncio.sleep(0.05)

    scales = Ledger()
    async with await standing(drips, says(OK)) as stand, asyncio.timeout(30):
        answer = await stand.send(scales)
        assert answer.upstream.name == "b"
        assert [what for what, _ in scales.told] == ["refused", "answered"]
        assert stand.why("a") is not None


@pytest.mark.parametrize("refusal", [out_of_quota("17s"), error(503), BAD_KEY, None])
async def test_what_a_former_upstream_says_is_not_said_of_the_one_that_has_its_name(refusal: bytes | None) -> None:
    """A key was renewed by a reload, and a call was under way with the old one, which is revoked then."""
    async with await standing(refusal and says(refusal), says(OK)) as stand:
        stand.upstreams[0].former = True
        for _ in range(FAILURES):
            assert (await stand.send()).upstream.name == "b", "it is tried elsewhere all the same"
        assert stand.why("a") is None


@pytest.mark.parametrize("refusal", [out_of_quota("17s"), error(503)])
async def test_a_free_operation_that_is_refused_keeps_no_metered_call_away(refusal: bytes) -> None:
    """Google counts them apart: else whoever counts tokens often enough takes the model from everybody."""
    async with await standing(says(refusal), says(OK)) as stand:
        assert (await stand.send(call=FREE)).upstream.name == "b"
        assert stand.why("a") is None
        assert (await stand.send(call=FREE)).upstream.name == "b"
        assert stand.asked == ["a", "b", "b"], "known of the free operation"
        await stand.send()
        assert stand.asked[3:] == ["a", "b"]
        assert stand.why("a") is not None


@pytest.mark.parametrize("scales", [Ledger(ends_at="a"), Ledger(gone=True), Ledger({"a": 1000})])
async def test_a_probe_that_does_not_go_up_is_the_next_callers(scales: Ledger) -> None:
    """Whoever sends calls and leaves them could keep an upstream from coming back for everybody, and at no cost."""
    async with await standing(says(OK), says(OK)) as stand:
        stand.health.exhausted("a", MODEL, quota(17))
        stand.steady.now += 17
        with contextlib.suppress(ClientGone):
            await stand.send(scales)
        assert "a" not in stand.asked
        assert (await stand.send()).upstream.name == "a"
        assert stand.why("a") is None


async def test_one_that_cant_be_reached_costs_the_call_nothing_and_opens_its_circuit_in_the_end() -> None:
    async with await standing(None, says(OK)) as stand:
        for number in range(1, FAILURES + 3):
            scales = Ledger()
            await stand.send(scales)
            first = [("failed NOTHING", "a unreachable")] if number <= FAILURES else []
            assert scales.told == [*first, ("answered", "b answered")]
            assert scales.went_up == 1
        assert stand.why("a") is Why.UNREACHABLE
        error = stand.upstreams[0].observed.last_error
        assert error is not None
        assert error.what.startswith("unreachable: The upstream could not be reached: ")
        assert "again later" not in error.what, "that is for callers"


@pytest.mark.parametrize(("script", "sent"), [(hangs_up, Sent.WHOLE), (hangs_up_early, Sent.PART)])
async def test_what_may_have_cost_money_is_not_sent_again_and_what_is_free_is(script: Part, sent: Sent) -> None:
    large = Body(b"x" * 12_000_000)
    async with await standing(script, says(OK)) as stand:
        scales = Ledger()
        with pytest.raises(UpstreamFailed) as failed:
            await stand.send(scales, METERED, large)
        assert (failed.value.reason, failed.value.sent) == (Reason.UPSTREAM_UNREACHABLE, sent)
        assert scales.told == [(f"failed {sent.name}", "a broke_off")]
        assert "b" not in stand.asked
        answer = await stand.send(scales, FREE, large)
        assert answer.upstream.name == "b"
        assert [told[1] for told in scales.told[1:]] == ["a broke_off", "b answered"]


async def test_one_that_says_nothing_is_waited_for_and_not_repeated_but_for_what_is_free() -> None:
    async with await standing() as stand:
        await stand.add(stands_still, Timeouts(first_byte=0.2))
        await stand.add(says(OK))
        scales = Ledger()
        with pytest.raises(UpstreamFailed) as failed:
            await stand.send(scales)
        assert (failed.value.reason, failed.value.sent) == (Reason.UPSTREAM_TIMEOUT, Sent.WHOLE)
        assert scales.told == [("failed WHOLE", "a timeout")]
        assert stand.asked == ["a"]
        assert (await stand.send(call=FREE)).upstream.name == "b"
        assert stand.why("a") is None, "it may be thinking"


@pytest.mark.parametrize("pieces", [False, True])
async def test_the_body_goes_up_whole_again(pieces: bool) -> None:
    """Also where the first upstream refused it before it had come."""
    content = bytes(range(256)) * 4000

    async def refuses_early(peer: Peer) -> None:
        await peer.head()
        await peer.say(out_of_quota("17s"))
        await peer.gone()

    async with await standing(says(out_of_quota("17s")), refuses_early, says(OK)) as stand:
        answer = await stand.send(body=Body(content, pieces=pieces))
        assert answer.upstream.name == "c"
        assert [(name, body == content) for name, _, body in stand.requests] == [("a", True), ("c", True)]


@pytest.mark.parametrize("delays", [("9s", "3s", "17s"), ("3s", "9s", "17s"), ("9s", "17s", "3s")])
async def test_where_all_are_out_of_quota_the_answer_is_the_one_with_the_shortest_wait(delays: tuple[str, ...]) -> None:
    scales = Ledger()
    async with await standing(*(says(out_of_quota(delay)) for delay in delays)) as stand:
        answer = await stand.send(scales)
        assert answer.error is not None
        assert answer.error.status == 429
        assert json.loads(answer.error.body)["error"]["message"] == "3s"
        assert answer.upstream.name == "abc"[delays.index("3s")]
        assert scales.told == [("refused", f"{name} rate_limited") for name in "abc"]
        stand.steady.now += 1
        with pytest.raises(NoUpstream) as none:
            await stand.send(scales)
        assert none.value.told is not None
        assert (none.value.http, none.value.told["details"][0]["retryDelay"]) == (429, "2.000s")
        assert stand.asked == ["a", "b", "c"], "nobody is asked"


async def test_where_the_shortest_wait_is_one_that_was_told_before_that_is_told_again() -> None:
    async with await standing(says(OK), says(out_of_quota("17s"))) as stand:
        stand.health.exhausted("a", MODEL, quota(9, "a"))
        with pytest.raises(NoUpstream) as none:
            await stand.send()
        assert none.value.told is not None
        assert (none.value.told["message"], none.value.wait_ms) == ("No quota at a.", 9000)
        assert stand.asked == ["b"]


async def test_one_that_is_alone_answers_each_call_itself() -> None:
    """Though its second wait is shorter than what is left of the first, and though it is known to be out."""
    delays = ["17s", "2s", "60s"]

    async def script(peer: Peer) -> None:
        for delay in delays:
            await peer.answer(out_of_quota(delay))
        await peer.answer(error(503, "busy"))
        await peer.answer(BAD_KEY)

    async with await standing(script) as stand:
        for delay in delays:
            stand.steady.now += 1
            answer = await stand.send()
            assert answer.error is not None
            assert answer.error.body == out_of_quota(delay).partition(b"\r\n\r\n")[2]
        for status in (503, 400):
            answer = await stand.send()
            assert answer.error is not None
            assert answer.error.status == status


async def test_where_they_are_out_for_different_reasons_the_last_answer_is_the_calls() -> None:
    async with await standing(says(out_of_quota("17s")), says(error(503, "busy")), says(BAD_KEY)) as stand:
        answer = await stand.send()
        assert answer.error is not None
        assert (answer.upstream.name, answer.error.status) == ("b", 503), "a bad credential is no answer to a caller"
        with pytest.raises(NoUpstream) as none:
            await stand.send()
        assert (none.value.http, none.value.told) == (503, None)
        assert stand.asked == ["a", "b", "c"]


async def test_where_every_credential_is_bad_that_is_the_answer_and_then_what_is_known() -> None:
    async with await standing(says(BAD_KEY), says(error(401))) as stand:
        answer = await stand.send()
        assert answer.why is Why.CREDENTIAL_REFUSED
        with pytest.raises(ProxyRefused) as refused:
            await stand.send()
        assert refused.value.reason is Reason.UPSTREAM_CREDENTIAL_REFUSED
        assert stand.asked == ["a", "b"]


async def test_where_nobody_can_be_reached_that_is_said() -> None:
    async with await standing(None, None) as stand:
        scales = Ledger()
        with pytest.raises(UpstreamFailed) as failed:
            await stand.send(scales)
        assert (failed.value.reason, failed.value.sent) == (Reason.UPSTREAM_UNREACHABLE, Sent.NOTHING)
        assert scales.went_up == 0


async def test_one_without_room_in_its_own_quota_is_passed_by() -> None:
    async with await standing(says(OK), says(OK)) as stand:
        scales = Ledger({"a": 700})
        assert (await stand.send(scales)).upstream.name == "b"
        assert scales.told == [("answered", "b answered")], "no attempt was made"
        with pytest.raises(NoUpstream) as none:
            await stand.send(Ledger({"a": 700, "b": 300}))
        assert (none.value.http, none.value.wait_ms) == (503, 300)
        assert stand.asked == ["b"]


async def test_a_client_that_leaves_between_two_attempts_ends_them() -> None:
    async with await standing(says(out_of_quota("17s")), says(OK)) as stand:
        scales = Ledger(ends_at="b")
        with pytest.raises(ClientGone):
            await stand.send(scales)
        assert scales.told == [("refused", "a rate_limited")]
        assert stand.asked == ["a"]


@pytest.mark.parametrize("script", [says(out_of_quota("17s")), None])
async def test_attempts_are_bounded_by_count(script: Part | None) -> None:
    """Refused or failed: a pool of a hundred doesn't make a hundred attempts of one call."""
    async with await standing(*[script] * (MOST + 2)) as stand:
        scales = Ledger()
        with contextlib.suppress(UpstreamFailed):
            await stand.send(scales)
        assert len(scales.told) == MOST


async def test_attempts_are_bounded_by_time() -> None:
    async with await standing(*[says(error(503, name)) for name in "abc"]) as stand:

        async def slow(peer: Peer) -> None:
            await peer.request()
            stand.steady.now += LONGEST_S / 2 + 1
            await peer.say(error(503, "late"))
            await peer.gone()

        await stand.add(slow)
        await stand.add(slow)
        await stand.add(says(OK))
        scales = Ledger()
        answer = await stand.send(scales)
        assert answer.error is not None
        assert b"late" in answer.error.body
        assert scales.milliseconds == [0, 0, 0, 16_000, 16_000]
        assert "f" not in stand.asked


async def test_a_probe_that_fails_over_leaves_the_upstream_out() -> None:
    async with await standing(says(out_of_quota("3s")), says(OK)) as stand:
        await stand.send()
        stand.steady.now += 3
        assert (await stand.send()).upstream.name == "b"
        assert (await stand.send()).upstream.name == "b"
        assert stand.asked == ["a", "b", "a", "b", "b"]


async def test_a_probe_that_is_answered_brings_the_upstream_back() -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(out_of_quota("3s"))
        await says(error(404))(peer)

    async with await standing(script, says(OK)) as stand:
        await stand.send()
        stand.steady.now += 3
        for _ in range(2):
            assert (await stand.send()).upstream.name == "a", "404 is an answer, too"
        assert stand.why("a") is None


async def test_metrics_count_each_attempt() -> None:
    async with await standing(says(out_of_quota("17s")), None, says(OK)) as stand:
        await stand.send()
        await stand.send()
        shown = stand.metrics.registry

        def value(name: str, **labels: str) -> float | None:
            return shown.get_sample_value(f"weighbridge_{name}", labels)

        assert value("upstream_requests_total", upstream="a", status="429") == 1
        assert value("upstream_requests_total", upstream="b", status="failed") == 2
        assert value("upstream_requests_total", upstream="c", status="200") == 2
        assert value("attempts_total", outcome="rate_limited") == 1
        assert value("attempts_total", outcome="unreachable") == 2
        assert value("attempts_total", outcome="answered") == 2


async def test_a_failover_keeps_nothing_alive() -> None:
    """An error knows the frames that it was raised through: kept in one of them, it would hold the call's body."""
    body = Body(b"{}")
    gone = weakref.ref(body)
    async with await standing(None, says(OK)) as stand:
        gc.collect()
        gc.disable()
        try:
            await stand.send(body=body)
            del body
            await asyncio.sleep(0)
            assert gone() is None
        finally:
            gc.enable()
