"""One HTTP call from first byte to last. Reads as docs/one-call.md tells it; nothing else orchestrates."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from proxy.config.addresses import Network
from proxy.errors import Outcome, ProxyRefused, Reason, Refusal, UpstreamFailed
from proxy.gateway import model_lists, streams
from proxy.gateway.client import Client, address
from proxy.gateway.ended import Ended
from proxy.gateway.intake import Body, ClientGone, Intake
from proxy.gateway.looks import Looks
from proxy.gateway.spliced import Spliced
from proxy.gateway.upstream_errors import error_to_pass, hint_on
from proxy.gateway.weigher import Weigher
from proxy.gateway.weighing import Unweighed, Weighing
from proxy.gemini import bodies, calls, credentials, headers, openai_bodies, openai_errors
from proxy.gemini.aliases import Aliases
from proxy.gemini.bodies import BodyFacts, Named
from proxy.gemini.calls import Call
from proxy.gemini.headers import Headers
from proxy.telemetry.metrics import Metrics
from proxy.tenants.keyring import Keyring
from proxy.tenants.keys import Tenant
from proxy.upstreams.attempts import Answer, Attempts
from proxy.upstreams.pool import Pool

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


class Relay:
    """The endpoint behind every path of the gateway door that isn't our own."""

    def __init__(
        self,
        *,
        keyring: Keyring,
        pool: Pool,
        attempts: Attempts,
        intake: Intake,
        weigher: Weigher,
        metrics: Metrics,
        ended: Ended,
        trusted_proxies: Sequence[Network],
        monotonic: Callable[[], float],
        aliases: Aliases | None = None,
        affinity: Callable[[Call, BodyFacts], str] = lambda call, facts: "",
    ) -> None:
        """`affinity` names the only upstream that a call may go to, where what it is about exists only there."""
        self._keyring = keyring
        self._pool = pool
        self._attempts = attempts
        self._affinity = affinity
        self._upstream_hosts = frozenset(upstream.hostname for upstream in pool.upstreams)
        self._intake = intake
        self._weigher = weigher
        self._metrics = metrics
        self._ended = ended
        self._trusted_proxies = trusted_proxies
        self._monotonic = monotonic
        self._aliases = aliases
        self.parse = calls.parse if aliases is None else aliases.parse
        self.needs_price, self.makes_images = weigher.needs_price, weigher.makes_images
        self._looks = Looks()
        self.draining = False
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = Client(scope, send, self._monotonic())
        await self.attend(client, scope["raw_path"], self._call(scope, receive, client))

    async def attend(self, client: Client, raw_path: bytes, served: Coroutine[Any, Any, None]) -> None:
        """Has a request served, and answers whatever refusal comes of it, in the dialect of its path."""
        self.in_flight += 1
        try:
            await served
        except Refusal as refusal:
            client.project = client.project or refusal.project
            if not client.started:  # else something is broken off
                self._metrics.refused(client.project, refusal.reason.word)
            client.refusal = refusal
            await client.refuse(refusal, openai=openai_errors.spoken_at(raw_path))
        except ClientGone:
            pass
        except asyncio.CancelledError:
            if not client.gone:
                client.break_off()
                raise
        finally:
            self.in_flight -= 1
            client.stop_outliving()
            self._ended(client)

    async def _call(self, scope: Scope, receive: Receive, client: Client) -> None:
        came: Headers = scope["headers"]
        call = self.parse(scope["method"], scope["raw_path"], scope["query_string"])
        client.asks(call)
        tenant, key = await self.authenticate(came, scope["query_string"])
        client.is_of(tenant)
        self.authorize(call, tenant, scope)
        if call.operation.body:
            headers.require_json(came)
        crossing = headers.up(came, key.encode())
        with await self._intake.take_in(call, tenant, came, receive) as body:
            await self.exchange(call, tenant, client, crossing, body)

    async def authenticate(self, came: Headers, query: bytes) -> tuple[Tenant, str]:
        """Whose call it is, and by which key; a server that shuts down takes none. Raises Refusal."""
        key = credentials.client_key(came, query)
        if self.draining:
            raise ProxyRefused(Reason.DRAINING, "This server is shutting down. Send the request again.")
        return await self._keyring.authenticate(key), key

    def authorize(self, call: Call, tenant: Tenant, scope: Scope) -> None:
        """What the request line and the client's address show is refused before the body is taken in."""
        if call.operation.names_model:
            tenant.policy.authorize_model(call.model_asked, call.model)
        self.authorize_address(tenant, scope)
        self._weigher.authorize(call, tenant)

    def authorize_address(self, tenant: Tenant, scope: Scope) -> None:
        """Raises ProxyRefused ADDRESS_NOT_ALLOWED."""
        if tenant.policy.addresses:
            tenant.policy.authorize_address(address(scope, self._trusted_proxies))

    async def exchange(self, call: Call, tenant: Tenant, client: Client, crossing: Headers, body: Body) -> None:
        """What becomes of a call whose body is there: docs/one-call.md's steps from looking at it to its settling.

        `client` is whom the answer goes to, `crossing` the headers that go up. Raises Refusal, ClientGone.
        """
        client.ours(self._monotonic())
        facts = await self._look(call, tenant, client, body)
        if facts.named is not None:
            call = self._named(call, facts.named, tenant, client)
        client.hint = facts.hint or client.hint
        going_up = Spliced(body, facts.splices, facts.growth) if facts.splices else body
        selection = self._pool.select(call.model, tenant.project, self._affinity(call, facts), call.counted_as)
        first = selection.upstream.name
        async with self._weigher.weigh(call, tenant, client, facts, body.length, first) as weighing:
            with closing(await self._attempts.send(selection, call, crossing, going_up, weighing)) as answer:
                if answer.error is not None:
                    client.hint = hint_on(answer.error, answer.why, call, facts) or client.hint
                await self._relay(answer, call, client, weighing)

    def _named(self, call: Call, named: Named, tenant: Tenant, client: Client) -> Call:
        """The call under the model that its body names: refused by it like one under a path's, though later."""
        call = call.naming(named.model, named.used, streams=named.streams, adds_usage=named.adds_usage)
        client.asks(call)
        tenant.policy.authorize_model(named.model, named.used)
        self._weigher.authorize(call, tenant)
        return call

    async def _look(self, call: Call, tenant: Tenant, client: Client, body: Body) -> BodyFacts:
        """What must be known of the body. What takes long is done in a thread, so that it can't hold up other calls."""
        asked = call.operation.name, call.model_asked, self._upstream_hosts
        bounded, aliases = self._weigher.bounds(call, tenant), self._aliases
        skim = openai_bodies.skim if call.operation.body_names_model else bodies.skim
        outline: bodies.Outline | openai_bodies.Outline | None = None
        if not body.spooled and body.length <= bodies.SKIMMED_AT_ONCE:
            outline = skim(body.view())
            if not outline.costly(bounded=bounded, aliased=aliases is not None):
                return outline.read(*asked, bounded=bounded, aliases=aliases)
        async with self._looks.turn(tenant.project):
            if client.gone:
                raise ClientGone
            return await asyncio.to_thread(
                lambda: (outline or skim(body.view())).read(*asked, bounded=bounded, aliases=aliases)
            )

    async def _relay(self, answer: Answer, call: Call, client: Client, weighing: Weighing | Unweighed) -> None:
        """Passes the response on as it comes, and writes it down before its last byte leaves."""
        first_byte_s = self._monotonic() - client.began
        self._metrics.answered(client.operation, first_byte_s)
        response, upstream = answer.response, answer.upstream
        client.upstream = upstream.name
        if answer.error is not None:
            await weighing.settle_error(upstream.name, answer.error, first_byte_s)
            self._held_up(client)
            await client.answer(answer.error.status, *error_to_pass(answer.error, answer.why, upstream))
            return
        if self._aliases is not None:
            response = await model_lists.by_alias(response, call, self._aliases)
        if headers.tell_of_events(response.headers):
            client.framing = "sse"
        meter = weighing.meter(response, first_byte_s)
        await client.start(response.status, headers.down(response.headers, upstream.secret))
        last, passing = b"", streams.passing(upstream, client.framing, response, call)
        try:
            while piece := await response.read():
                await meter.feed(piece)
                if client.streams:
                    await client.send(passing.feed(piece))
                elif response.complete:
                    last = piece
                else:
                    await client.send(piece)
        except UpstreamFailed:
            # At least the head, as it came: some clients send a request again by themselves where nothing was answered.
            await client.send(b"")
            raise
        client.ours(self._monotonic())
        last = last or passing.finish()
        await weighing.settle(Outcome.CLIENT_GONE if client.gone else Outcome.OK)
        self._held_up(client)
        await client.end(last)

    def _held_up(self, client: Client) -> None:
        """All is done but to send the last piece."""
        client.theirs(self._monotonic())
        self._metrics.held_up(client.operation, client.overhead_s)

    def refused_one(self, client: Client, refusal: Refusal) -> None:
        """One of several calls of a request was refused, by which nothing is broken off."""
        self._metrics.refused(client.project, refusal.reason.word)
        client.refusal = refusal
