"""One upstream after the other, until one answers that isn't out. Never after a response's first byte."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from mmap import mmap
from typing import Any, NamedTuple, Protocol

from proxy.errors import Reason, Sent, UpstreamFailed
from proxy.gemini import edits, exhausted, status
from proxy.gemini.bodies import BodyFacts
from proxy.gemini.calls import Call
from proxy.gemini.headers import Headers
from proxy.telemetry.metrics import Metrics
from proxy.upstreams import error_answer
from proxy.upstreams.error_answer import ErrorAnswer
from proxy.upstreams.health import Health, Why
from proxy.upstreams.pool import Selection
from proxy.upstreams.transport import Response
from proxy.upstreams.upstream import Upstream

MOST = 8
"""Attempts of one call."""
LONGEST_S = 30.0
"""How long after the first attempt began another one may begin."""


class Content(Protocol):
    """A request's body. Whoever asks for its content again gets it from the beginning."""

    length: int

    @property
    def content(self) -> bytes | bytearray | mmap | AsyncIterator[bytes]: ...


class Scales(Protocol):
    """What an attempt needs of the call's weighing."""

    @property
    def record_id(self) -> str:
        """Of the record that the call will leave; empty where it leaves none."""
        ...

    @property
    def facts(self) -> BodyFacts | None:
        """What is known of its body, where it is weighed."""
        ...

    async def begin(self, upstream: str) -> int | None:
        """An attempt is about to be made. Returns None; or, where the upstream's own quota has no room, for how many
        milliseconds: then it isn't. Raises what ends the call."""
        ...

    def theirs(self, at: float) -> None:
        """From now on, by the clock of `Attempts`, the call waits for an upstream: its connection and its answer."""
        ...

    def ours(self, at: float) -> None:
        """The upstream has failed, or its error has come whole: the call waits for us again. Not told of a response,
        which is still to come."""
        ...

    def goes_up(self) -> None:
        """Its first byte is about to be written. Raises what ends the call."""
        ...

    def refused(self, attempt: dict[str, Any]) -> None:
        """The upstream answered that it did nothing."""
        ...

    def failed(self, attempt: dict[str, Any], sent: Sent) -> None:
        """No answer came; `sent` says how much had gone up."""
        ...

    def answered(self, attempt: dict[str, Any]) -> None:
        """Its answer is the call's."""
        ...


class Answer(NamedTuple):
    """An upstream's answer: a response of which only the head has come, or an error."""

    upstream: Upstream
    response: Response
    error: ErrorAnswer | None = None
    """The response, where it is an error: read whole, and closed."""
    why: Why | None = None
    """Why another upstream may be asked instead; None where nobody else would answer better."""

    def close(self) -> None:
        self.response.close()


class Attempts:
    """Sends calls up. What each attempt shows of its upstream is told to Health."""

    def __init__(
        self,
        health: Health,
        metrics: Metrics,
        monotonic: Callable[[], float],
        claim: Callable[[str, str], Awaitable[bool]] | None = None,
        release: Callable[[str, str], object] | None = None,
    ) -> None:
        """`claim` is asked, with upstream and what the call is counted as, whether this process may probe; it must not
        raise. `release` is told the same where the call that may didn't."""
        self._health = health
        self._metrics = metrics
        self._monotonic = monotonic
        self._claim = claim
        self._release = release

    async def send(self, selection: Selection, call: Call, headers: Headers, body: Content, scales: Scales) -> Answer:
        """The call's answer, to be closed. Raises UpstreamFailed, ProxyRefused, and what `scales` raises."""
        give_up = self._monotonic() + LONGEST_S
        refused: list[Answer] = []
        failure: UpstreamFailed | None = None
        made = 0
        while True:
            try:
                answer = await self._ask(selection, call, headers, body, scales)
            except UpstreamFailed as failed:
                made += 1
                if failed.sent is not Sent.NOTHING and not call.operation.repeatable:
                    raise
                failure = failed.with_traceback(None)  # it leads to this frame, and that to it: a cycle
            else:
                if answer is not None:
                    made += 1
                    if answer.why is None:
                        return answer
                    refused.append(answer)
            if made == MOST or self._monotonic() > give_up or not selection.next():
                return _most_useful(refused, failure, selection)

    async def _claimed(self, upstream: str, counted_as: str) -> bool:
        """Whether this call may probe: one of this process, and of all that share what they know, may."""
        return self._health.claim(upstream, counted_as) and (
            self._claim is None or await self._claim(upstream, counted_as)
        )

    async def _ask(
        self, selection: Selection, call: Call, headers: Headers, body: Content, scales: Scales
    ) -> Answer | None:
        """One attempt, where it comes to that; None where another call is to probe, or the upstream's own quota has no
        room: this one goes on as if it were out."""
        try:
            if selection.probe and not await self._claimed(selection.upstream.name, call.counted_as):
                return None
            wait_ms = await scales.begin(selection.upstream.name)
            if wait_ms is None:
                return await self._attempt(selection, call, headers, body, scales)
        except UpstreamFailed:
            raise
        except BaseException:  # most likely the client left: who makes a habit of it must not keep others from probing
            self._unclaim(selection, call)
            raise
        self._unclaim(selection, call)
        selection.full(wait_ms)
        return None

    def _unclaim(self, selection: Selection, call: Call) -> None:
        """What this call was to find out, nobody knows yet."""
        if selection.probe:
            self._health.unclaim(selection.upstream.name, call.counted_as)
            if self._release is not None:
                self._release(selection.upstream.name, call.counted_as)

    async def _attempt(
        self, selection: Selection, call: Call, headers: Headers, body: Content, scales: Scales
    ) -> Answer:
        upstream, began = selection.upstream, self._monotonic()
        scales.theirs(began)
        try:
            response = await upstream.send(call, headers, body.content, body.length, scales.goes_up)
        except UpstreamFailed as failure:
            ended = self._monotonic()
            scales.ours(ended)
            if failure.reason is Reason.UPSTREAM_UNREACHABLE and not upstream.former:
                self._health.failed(upstream.name)
            outcome = outcome_of(failure)
            what = str(failure).partition(". ")[0]  # the rest is advice to the caller
            upstream.observed.failed(ended, f"{outcome}: {what}")
            self._metrics.attempted(upstream.name, 0, outcome)
            scales.failed(_told(upstream, outcome, ended - began), failure.sent)
            raise
        seconds = self._monotonic() - began
        upstream.observed.answered(seconds)
        answer = Answer(upstream, response)
        if response.status >= 300 and response.status != 304:
            error = await error_answer.read(response)
            scales.ours(self._monotonic())
            answer = self._judged(answer, call.counted_as, error)
            if answer.error and (answer.why or answer.error.status >= 500):
                what = f"{answer.error.status} {answer.why or ''}".rstrip()
                upstream.observed.failed(self._monotonic(), what, answer.error.plain)
        if answer.why is None:
            if not upstream.former:
                self._health.well(upstream.name, call.counted_as, began)
            scales.answered(_told(upstream, "answered", seconds))
        else:
            scales.refused(_told(upstream, answer.why, seconds))
        self._metrics.attempted(upstream.name, response.status, answer.why or "answered")
        return answer

    def _judged(self, answer: Answer, counted_as: str, error: ErrorAnswer) -> Answer:
        """Whether an error says that the upstream is out: told to Health."""
        why = _why(error)
        if why is not None and not answer.upstream.former:
            self._tell(answer.upstream, counted_as, why, error)
        return answer._replace(error=error, why=why)

    def _tell(self, upstream: Upstream, counted_as: str, why: Why, error: ErrorAnswer) -> None:
        if why is Why.RATE_LIMITED:
            said = exhausted.read(edits.redact(error.plain, upstream.secret))
            self._health.exhausted(upstream.name, counted_as, said)
        elif why is Why.OVERLOADED:
            self._health.overloaded(upstream.name, counted_as)
        else:
            self._health.credential_refused(upstream.name)


def _most_useful(refused: list[Answer], failure: UpstreamFailed | None, selection: Selection) -> Answer:
    """What to answer where nobody else is left. Raises what to refuse with instead."""
    if failure is None and all(answer.why is Why.RATE_LIMITED for answer in refused):
        first = selection.first_back()
        if said := [answer for answer in refused if answer.upstream is first]:
            return said[-1]
        if first or not refused:
            raise selection.none_left()
    ours = [answer for answer in refused if answer.why is not Why.CREDENTIAL_REFUSED]
    if ours or refused:
        return (ours or refused)[-1]
    raise failure or selection.none_left()


def _why(error: ErrorAnswer) -> Why | None:
    """Why an upstream that answers so is out; None where it isn't."""
    if error.status == 429:
        return Why.RATE_LIMITED
    if error.status == 503:
        return Why.OVERLOADED
    return Why.CREDENTIAL_REFUSED if status.refuses_our_credential(error.status, error.plain) else None


def outcome_of(failure: UpstreamFailed) -> str:
    """What metrics, records and traces call an attempt without an answer."""
    if failure.reason is Reason.UPSTREAM_TIMEOUT:
        return "timeout"
    return "unreachable" if failure.sent is Sent.NOTHING else "broke_off"


def _told(upstream: Upstream, outcome: str, seconds: float) -> dict[str, Any]:
    """An attempt as the record tells it."""
    return {"upstream": upstream.name, "outcome": str(outcome), "ms": int(seconds * 1000)}
