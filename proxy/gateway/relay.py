"""One HTTP call from first byte to last. Reads as docs/one-call.md tells it; nothing else orchestrates."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import structlog

from proxy.config.addresses import Network
from proxy.errors import Outcome, ProxyRefused, Reason, Refusal, UpstreamFailed
from proxy.gateway.client import Client, address
from proxy.gateway.intake import Body, ClientGone, Intake
from proxy.gateway.looks import Looks
from proxy.gateway.meter import Meter
from proxy.gateway.refusals import tell_refusal
from proxy.gateway.upstream_errors import StreamErrors, error_to_pass
from proxy.gateway.weighing import Unweighed, Weigher, Weighing
from proxy.gemini import bodies, calls, credentials, headers
from proxy.gemini.bodies import BodyFacts
from proxy.gemini.calls import Call
from proxy.gemini.headers import Headers
from proxy.telemetry.metrics import Metrics
from proxy.tenants.keyring import Keyring
from proxy.tenants.keys import Tenant
from proxy.upstreams.pool import Upstream
from proxy.upstreams.transport import Response

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")


class Relay:
    """The endpoint behind every path of the gateway door that isn't our own."""

    def __init__(
        self,
        *,
        keyring: Keyring,
        upstream: Upstream,
        intake: Intake,
        weigher: Weigher,
        metrics: Metrics,
        trusted_proxies: Sequence[Network],
        monotonic: Callable[[], float],
        drain_after_disconnect_s: float,
    ) -> None:
        self._keyring = keyring
        self._upstream = upstream
        self._upstream_hosts = frozenset({upstream.hostname})
        self._intake = intake
        self._weigher = weigher
        self._metrics = metrics
        self._trusted_proxies = trusted_proxies
        self._monotonic = monotonic
        self._drain_s = drain_after_disconnect_s
        self._looks = Looks()
        self.draining = False
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = Client(scope, send, self._monotonic())
        self.in_flight += 1
        try:
            await self._call(scope, receive, client)
        except Refusal as refusal:
            client.project = client.project or refusal.project
            self._tell(client, refusal)
            await client.refuse(refusal)
        except ClientGone:
            pass
        except asyncio.CancelledError:
            if not client.gone:
                client.break_off()
                raise
        finally:
            self.in_flight -= 1
            client.stop_outliving()
            seconds = self._monotonic() - client.began
            self._metrics.finished(client.project, client.operation, client.model, client.status, seconds)

    async def _call(self, scope: Scope, receive: Receive, client: Client) -> None:
        came: Headers = scope["headers"]
        call = calls.parse(scope["method"], scope["raw_path"], scope["query_string"])
        client.asks(call)
        key = credentials.client_key(came, scope["query_string"])
        tenant = await self._authenticate(key)
        client.project = tenant.project
        self._authorize(call, tenant, scope)
        if call.operation.body:
            headers.require_json(came)
        crossing = headers.up(came, key.encode())
        with await self._intake.take_in(call, tenant, came, receive) as body:
            facts = await self._look(call, tenant, client, body)
            async with self._weigher.weigh(call, tenant, client, facts, body.length) as weighing:
                with closing(await self._attempt(call, crossing, body, client, weighing)) as response:
                    await self._relay(response, client, weighing)

    async def _authenticate(self, key: str) -> Tenant:
        """Whose call it is; a server that shuts down takes none."""
        if self.draining:
            raise ProxyRefused(Reason.DRAINING, "This server is shutting down. Send the request again.")
        return await self._keyring.authenticate(key)

    def _authorize(self, call: Call, tenant: Tenant, scope: Scope) -> None:
        """What the request line and the client's address show is refused before the body is taken in."""
        if call.operation.names_model:
            tenant.policy.authorize_model(call.model)
        if tenant.policy.addresses:
            tenant.policy.authorize_address(address(scope, self._trusted_proxies))
        self._weigher.authorize(call, tenant)

    async def _look(self, call: Call, tenant: Tenant, client: Client, body: Body) -> BodyFacts:
        """What must be known of the body. What takes long is done in a thread, so that it can't hold up other calls."""
        asked = call.operation.name, call.model, self._upstream_hosts
        bounded = self._weigher.bounds(call, tenant)
        outline = None
        if not body.spooled and body.length <= bodies.SKIMMED_AT_ONCE:
            outline = bodies.skim(body.view())
            if not outline.costly(bounded=bounded):
                return outline.read(*asked, bounded=bounded)
        async with self._looks.turn(tenant.project):
            if client.gone:
                raise ClientGone
            return await asyncio.to_thread(lambda: (outline or bodies.skim(body.view())).read(*asked, bounded=bounded))

    async def _attempt(
        self, call: Call, crossing: Headers, body: Body, client: Client, weighing: Weighing | Unweighed
    ) -> Response:
        """Sends the call up, unless nobody waits for it any more.

        Once its first byte has gone up, a client that leaves is outlived: a metered call is read to its end, for Google
        bills it whether or not anyone listens. A free one, or one that still waits for a connection, ends with it.
        """

        def goes_up() -> None:
            if client.gone:
                raise ClientGone
            if call.operation.metered:
                client.outlive(self._drain_s)
            weighing.goes_up()

        if client.gone:
            raise ClientGone
        client.outlive(0)
        try:
            return await self._upstream.send(call, crossing, body.content, body.length, goes_up)
        except Refusal:
            self._metrics.upstream_requests.labels(self._upstream.name, "failed").inc()
            raise

    async def _relay(self, response: Response, client: Client, weighing: Weighing | Unweighed) -> None:
        """Passes the response on as it comes, and writes it down before its last byte leaves."""
        first_byte_s = self._monotonic() - client.began
        self._metrics.answered(self._upstream.name, client.operation, response.status, first_byte_s)
        if headers.tell_of_events(response.headers):
            client.framing = "sse"
        meter = weighing.answered(response, first_byte_s)
        if response.status >= 300 and response.status != 304:
            await self._pass_error(response, client, weighing, meter)
            return
        await client.start(response.status, headers.down(response.headers, self._upstream.secret))
        last, errors = b"", StreamErrors(self._upstream, client.framing)
        try:
            while piece := await response.read():
                await meter.feed(piece)
                if client.streams:
                    await client.send(errors.feed(piece))
                elif response.complete:
                    last = piece
                else:
                    await client.send(piece)
        except UpstreamFailed:
            # At least the head, as it came: some clients send a request again by themselves where nothing was answered.
            await client.send(b"")
            raise
        last = last or errors.finish()
        await weighing.settle(Outcome.CLIENT_GONE if client.gone else Outcome.OK)
        await client.end(last)

    async def _pass_error(
        self, response: Response, client: Client, weighing: Weighing | Unweighed, meter: Meter | Unweighed
    ) -> None:
        """Google doesn't bill what it answers with 400 or more; only what is ours is taken out of its words."""
        try:
            fields, body = await error_to_pass(response, self._upstream, meter.feed)
        finally:
            await weighing.settle(Outcome.UPSTREAM_ERROR)
        await client.start(response.status, fields)
        await client.end(body)

    def _tell(self, client: Client, refusal: Refusal) -> None:
        if client.started:
            log.info("broken_off", why=refusal.message, request_id=client.request_id, project=client.project)
        else:
            tell_refusal(self._metrics, refusal, client.request_id, client.project, client.operation, client.model)
