"""The listeners of a process: its doors, opened, and closed again with the calls in flight awaited."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn

from proxy import resources
from proxy.app import App
from proxy.billing import ledger_slot
from proxy.config import certificates
from proxy.config.addresses import parse_network
from proxy.config.expiry import LOOKS_EVERY_S, Expiry
from proxy.config.load import ConfigError
from proxy.config.schema import Server, Settings, base_url
from proxy.control_plane import ControlPlane
from proxy.errors import Reason
from proxy.gateway.acceptor import OPERATORS, Acceptor, Caps
from proxy.gateway.keep_alive import KeepAlive
from proxy.gateway.server import GatewayProtocol, gateway_protocol
from proxy.process import ALONE, Process
from proxy.telemetry import logs

if TYPE_CHECKING:
    from starlette.types import ASGIApp

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

INTERRUPT_DRAIN_S = 5
"""How long Ctrl-C waits for calls in flight; a second Ctrl-C doesn't wait."""
KEEP_ALIVE_S = 75
BROKEN_LEDGER_EXIT = 74
"""EX_IOERR of sysexits(3)."""


class Door(uvicorn.Server):
    """A uvicorn server whose signals are this module's business."""

    def __init__(self, app: ASGIApp, listener: socket.socket, **options: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                interface="asgi3",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                **options,
            )
        )
        self._listener = listener
        self._told = asyncio.Event()
        self._drain_s = 0.0

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def main_loop(self) -> None:
        """Waits to be told, where uvicorn looks ten times a second."""
        await self.on_tick(0)
        await self._told.wait()

    async def open_until_told(self) -> None:
        """Serves until `close`, then waits for the calls in flight; what is left then is cancelled and awaited."""
        await self.serve(sockets=[self._listener])
        rest = list(self.server_state.tasks)
        for task in rest:
            task.cancel()
        if rest:
            log.warning("calls_broken_off", calls=len(rest), what="they took longer, or nobody waited for them")
            await asyncio.wait(rest, timeout=INTERRUPT_DRAIN_S)

    async def _wait_tasks_to_complete(self) -> None:
        """uvicorn's wait, with an end of our own: what it says of it, we say ourselves."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_s):
                await super()._wait_tasks_to_complete()

    def close(self, drain_s: float) -> None:
        self._drain_s = drain_s
        self.should_exit = True
        self._told.set()


class GuardedDoor(Door):
    """A door that strangers may come to: it accepts connections by itself, no more than it may have."""

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        protocol: type[GatewayProtocol],
        *,
        caps: Caps,
        tls: ssl.SSLContext | None,
        new_id: Callable[[], str],
        refused: Callable[[], object],
        name: str,
    ) -> None:
        super().__init__(app, listener, http=protocol)
        make = partial(protocol, config=self.config, server_state=self.server_state, app_state={})
        self.acceptor = Acceptor(listener, make, caps=caps, tls=tls, new_id=new_id, refused=refused, door=name)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.servers = [self.acceptor]  # type: ignore[list-item]  # it closes like an asyncio.Server
        self.acceptor.start()
        self.started = True

    def break_off(self) -> None:
        """Ends every call so that no client takes what it has for complete."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, GatewayProtocol) and connection.active is not None:
                connection.active.break_off()


class Doors:
    """The doors that a process has open: both, or one of them."""

    def __init__(
        self, app: App, settings: Server, gateway: socket.socket | None, control: socket.socket | None
    ) -> None:
        """Raises ConfigError where the gateway door's certificate can't be used."""
        tls = _tls(settings) if gateway else None
        self.app = app
        self.base_url = url_of("http" if tls is None else "https", gateway) if gateway else ""
        self.admin_url = url_of("http", control) if control else ""
        self.kept = KeepAlive()
        self.gateway = self._gateway_door(gateway, tls) if gateway else None
        self._control = self._control_door(app.control, control) if control and app.control else None
        self._doors = [door for door in (self.gateway, self._control) if door is not None]
        self._expiry = Expiry()
        self._bound_connections(settings)
        self._settings = settings
        self._draining: asyncio.Task[None] | None = None

    def _gateway_door(self, listener: socket.socket, tls: ssl.SSLContext | None) -> GuardedDoor:
        protocol = gateway_protocol(self.app.new_id, self.app.tell_refusal, kept=self.kept)
        return self._guarded(self.app.gateway, listener, protocol, name="gateway", caps=Caps(), tls=tls)

    def _control_door(self, plane: ControlPlane, listener: socket.socket) -> GuardedDoor:
        protocol = gateway_protocol(self.app.new_id, self.app.tell_refusal)
        return self._guarded(plane.asgi, listener, protocol, name="control", caps=OPERATORS, tls=None)

    def _guarded(
        self, asgi: ASGIApp, listener: socket.socket, protocol: type[GatewayProtocol], **door: Any
    ) -> GuardedDoor:
        refused = partial(_count_refused, self.app)
        return GuardedDoor(asgi, listener, protocol, new_id=self.app.new_id, refused=refused, **door)

    async def open_until_told(self) -> None:
        """The control door closes when the gateway door has."""
        first, *others = [asyncio.get_running_loop().create_task(door.open_until_told()) for door in self._doors]
        try:
            await first
        finally:
            for door in self._doors[1:]:
                door.close(INTERRUPT_DRAIN_S)
            await asyncio.gather(*others)

    @property
    def closing(self) -> bool:
        """No new call is let in any more."""
        return self._doors[0].should_exit

    def terminate(self) -> None:
        """SIGTERM: not ready, but accepting until load balancers have seen it; then the calls in flight finish."""
        if self.gateway is None:
            self.app.ready = False  # the workers drain; when they have ended, the supervisor interrupts
        elif self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        self.app.ready = False
        self.kept.leaving = True
        log.info("draining", lame_duck_seconds=self._settings.lame_duck_seconds, in_flight=self.app.in_flight)
        await asyncio.sleep(self._settings.lame_duck_seconds)
        self._close(self._settings.drain_seconds)

    def apply(self, settings: Settings) -> None:
        """Takes another configuration: whoever calls from now on is served under it. Raises ConfigError."""
        server = settings.server
        tls = _tls(server)
        self.app.configure(settings)
        # Whether there is TLS at all, a start decides.
        if self.gateway is not None and self.gateway.acceptor.tls is not None and tls is not None:
            self.gateway.acceptor.tls = tls
        self._bound_connections(server)
        self._settings = server

    def _bound_connections(self, server: Server) -> None:
        if self.gateway is None:
            return
        most = resources.connections_possible(server.max_connections)
        if most < server.max_connections and "max_connections" in server.model_fields_set:
            log.warning(
                "files_bound_connections",
                what=f"too few files may be open for server.max_connections = {server.max_connections}: {most} it is; "
                "raise the limit of open files (LimitNOFILE= in the systemd unit, ulimit -n in a shell)",
            )
        trusted = [parse_network(text) for text in server.trusted_proxies]
        self.gateway.acceptor.caps = Caps(most, server.max_connections_per_address, trusted)
        self.kept.seconds, self.kept.requests = server.keep_alive_seconds, server.keep_alive_requests

    async def watch_certificate(self) -> None:
        """Tells in time that the gateway door's expires, for ever."""
        while True:
            self._expiry.look(self._settings.tls_cert, time.time())
            await asyncio.sleep(LOOKS_EVERY_S)

    def interrupt(self) -> None:
        """SIGINT: closes at once and waits a few seconds; a second one doesn't wait."""
        if self.closing:
            self._doors[0].force_exit = True
        else:
            self._close(INTERRUPT_DRAIN_S)

    def orphaned(self) -> None:
        """The supervisor has died: calls in flight finish, and nothing new is begun."""
        log.critical("supervisor_died", what="this process ends, too, when its calls in flight have")
        if self.gateway is None:
            self.interrupt()
        else:
            self.terminate()

    def _close(self, drain_s: float) -> None:
        if waited_for := self.app.in_flight:
            calls = "1 call" if waited_for == 1 else f"{waited_for} calls"
            what = f"waiting up to {drain_s:g} s for {calls} to end; Ctrl-C breaks off what is left"
            log.warning("closing", what=what, in_flight=waited_for, seconds=drain_s)
        self.app.drain()
        self.kept.leaving = True
        self._doors[0].close(drain_s)

    def watch_ended(self, watching: asyncio.Task[None]) -> None:
        """Without it a revoked key would be served for ever, and a limit forgotten: better not to serve."""
        if not watching.cancelled():
            self.interrupt()
            log.critical(
                "watch_ended",
                what="changes of keys, and open calls, are not followed any more: the server ends",
                why=repr(watching.exception()),
            )

    def announce(self, data_dir: Path) -> None:
        """Tells commands that work on this data_dir where to ask: the port may be any that was free."""
        try:
            ledger_slot.announce(data_dir / "ledger", self.admin_url)
        except OSError as error:
            log.error("control_door_untold", what="commands can't find this server", why=error.strerror)

    def ledger_broke(self) -> None:
        """What the disk holds is unknown: nothing more is answered, and the next start recovers what is there."""
        if self.gateway is not None:
            self.gateway.break_off()
        logs.flush()
        os._exit(BROKEN_LEDGER_EXIT)


@contextlib.asynccontextmanager
async def open_doors(
    settings: Settings,
    gateway: socket.socket | None,
    control: socket.socket | None,
    beside: Callable[[Doors], Coroutine[Any, Any, None]] | None = None,
    process: Process = ALONE,
) -> AsyncGenerator[Doors]:
    """Opens the app, and the doors for which there are sockets.

    At the end of the block it waits until they are told to close, and closes the app.

    SIGTERM and SIGINT tell them. `beside` runs for as long as they are open. Raises what opening the app raises, each
    with a sentence for the operator.
    """
    doors: Doors
    app = await App.open(settings, process, ledger_broke=lambda: doors.ledger_broke())
    try:
        doors = Doors(app, settings.server, gateway, control)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, doors.terminate)
        loop.add_signal_handler(signal.SIGINT, doors.interrupt)
        resources.keep_what_start_up_made()
        if control is not None:
            doors.announce(settings.storage.data_dir)
        app.ready = True
        tasks = [loop.create_task(app.watch())]
        if control is not None:
            tasks.append(loop.create_task(doors.watch_certificate()))
            tasks[-1].add_done_callback(partial(_tell_failed, "that the certificate expires is not told any more"))
        tasks[0].add_done_callback(doors.watch_ended)
        if beside is not None:
            tasks.append(loop.create_task(beside(doors)))
            tasks[-1].add_done_callback(partial(_tell_failed, "changes of the configuration are not followed any more"))
        serving = loop.create_task(doors.open_until_told())
        try:
            yield doors
            await asyncio.shield(serving)
        finally:
            if not serving.done():
                doors.interrupt()
                await serving
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        await app.close()


def _tell_failed(what: str, watching: asyncio.Task[None]) -> None:
    """Nobody waits for it before the end. Calls don't need it, and go on."""
    if not watching.cancelled() and (error := watching.exception()) is not None:
        log.error("watch_failed", what=f"{what}: restart the server", why=repr(error))


def _tls(server: Server) -> ssl.SSLContext | None:
    """Raises ConfigError."""
    if server.tls_cert is None or server.tls_key is None:
        return None
    try:
        return certificates.server_context(server.tls_cert, server.tls_key)
    except ValueError as error:
        raise ConfigError([str(error)]) from None


def _count_refused(app: App) -> None:
    """A connection beyond the caps. The acceptor logs, not each of them."""
    app.metrics.refused("", Reason.TOO_MANY_CONNECTIONS.word)


def url_of(scheme: str, bound: socket.socket) -> str:
    return base_url(scheme, *bound.getsockname()[:2])
