"""What `serve` runs: one process with both doors, or workers and a control process under a supervisor."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Coroutine, Mapping
from functools import partial

import uvloop

from proxy import resources, systemd
from proxy.app import METRICS
from proxy.billing.ledger_file import lock_ledger, make_ledger_file
from proxy.config.load import Loaded
from proxy.config.reload import Reloader
from proxy.doors import Doors, open_doors, url_of
from proxy.gateway.share import Share, Shares
from proxy.process import ALONE, Process
from proxy.resources import bind
from proxy.supervisor import Supervisor
from proxy.telemetry import logs, multiprocess

Opened = Callable[[str, str], object]
"""Called with the base URLs of both doors, once they are open."""


def run(loaded: Loaded, environ: Mapping[str, str], *, opened: Opened) -> None:
    """Binds both doors and serves until told to stop. Raises PortTaken, and what opening the app raises.

    `environ` is what the configuration was read from, besides its files: it is read again where they change.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it reloads: one that comes too early must not end the process
    resources.allow_connections()
    server = loaded.settings.server
    with (
        bind(server.host, server.port) as gateway,
        bind(server.admin_host, server.admin_port) as control,
    ):
        gateway_url = url_of("https" if server.tls_cert else "http", gateway)

        def tell() -> None:
            opened(gateway_url, url_of("http", control))
            systemd.tell_ready(environ)

        if server.workers == 1:
            _serve(loaded, environ, ALONE, gateway, control, tell)
        else:
            _supervise(loaded, environ, gateway, control, tell)


def _supervise(
    loaded: Loaded,
    environ: Mapping[str, str],
    gateway: socket.socket,
    control: socket.socket,
    tell: Callable[[], object],
) -> None:
    """Returns in each of the processes when it has served, and in the supervisor at the end of all."""
    data_dir = loaded.settings.storage.data_dir
    lock_ledger(data_dir)  # for all of them, until the last one has ended
    multiprocess.clear(data_dir / METRICS)
    # What each of them needs is imported once, before they part: a tenth of a second less for each, and 6 MB.
    import proxy.limits.redis
    import proxy.upstreams.shared_health

    if loaded.settings.tracing.otlp_endpoint:
        import proxy.telemetry.tracing  # noqa: F401

    workers = [Process(str(slot), control=False, locked=True) for slot in range(loaded.settings.server.workers)]
    processes = [*workers, Process("control", gateway=False, locked=True)]
    for process in processes:  # before any reads another's, which has no tables for a moment
        make_ledger_file(data_dir, process.slot)
    shares = Shares(len(workers))

    def died(process: Process) -> None:
        multiprocess.forget(data_dir / METRICS, process.slot)
        if not supervisor.ending:
            multiprocess.count_replaced(data_dir / METRICS)
        if process.gateway:
            shares.forget(int(process.slot))

    # The supervisor lets go of the door when it ends: who comes when no worker listens any more is refused, not kept.
    supervisor = Supervisor(processes, stopping=gateway.close, died=died)
    started = supervisor.start(tell)
    if started is None:
        return
    logs.name_process(str(started))
    if started.gateway:
        control.close()
        share = shares.of(int(started.slot))
        _serve(loaded, environ, started, gateway, None, supervisor.ready, supervisor.lifeline, share)
    else:
        gateway.close()
        _serve(loaded, environ, started, None, control, supervisor.ready, supervisor.lifeline)


def _serve(
    loaded: Loaded,
    environ: Mapping[str, str],
    process: Process,
    gateway: socket.socket | None,
    control: socket.socket | None,
    ready: Callable[[], object],
    lifeline: int | None = None,
    share: Share | None = None,
) -> None:
    """Serves as one process. `ready` is called once its doors are open. At the end of file of `lifeline` it ends."""

    def follow_configuration(doors: Doors) -> Coroutine[None, None, None]:
        count = doors.app.metrics.config_reloads
        counted = process.control  # once, however many processes read it
        reloader = Reloader(loaded, environ, apply=doors.apply, done=lambda outcome: count.labels(outcome).inc(counted))
        reloader.catch_up()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloader.tell)
        return reloader.watch()

    async def serve() -> None:
        async with open_doors(loaded.settings, gateway, control, follow_configuration, process) as doors:
            if doors.gateway is not None:
                doors.gateway.acceptor.share = share
            if lifeline is not None:
                asyncio.get_running_loop().add_reader(lifeline, partial(_orphaned, lifeline, doors))
            ready()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


def _orphaned(lifeline: int, doors: Doors) -> None:
    """The supervisor has died: nobody would replace a process, or pass a signal on."""
    asyncio.get_running_loop().remove_reader(lifeline)
    doors.orphaned()
