"""A supervisor over processes that only tell what they are and what comes to them. Run with `python -m`.

Each of them, and the supervisor, writes lines to standard output: "worker 0 is 4711", "worker 0 got SIGTERM",
"control process is orphaned", "opened", "died worker 0". A worker ends at SIGTERM, all end at SIGINT.
"""

from __future__ import annotations

import argparse
import errno
import os
import select
import signal
import socket
import sys

from proxy import supervisor
from proxy.process import Process
from proxy.telemetry import logs


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fails", action="append", default=[], help="this one ends before it is ready, with status 3")
    parser.add_argument("--hangs", default="", help="this one is never ready")
    parser.add_argument("--ends-with", type=int, default=0, help="the exit status of workers")
    parser.add_argument("--forks", type=int, default=0, help="the machine has room for so many processes at first")
    parser.add_argument("--interrupts", type=int, default=1, help="how often a worker must be told SIGINT")
    options = parser.parse_args()
    supervisor.STEADY_S = 0.0
    logs.configure()
    if options.forks:
        limit_forks(options.forks)
    processes = [Process("0", control=False), Process("1", control=False), Process("control", gateway=False)]
    over_them = supervisor.Supervisor(processes, lambda: tell("stopping"), lambda one: tell(f"died {one}"))
    process = over_them.start(lambda: tell("opened"))
    if process is None:
        tell("over")
        return
    if str(process) in options.fails:
        tell(f"{process} is {os.getpid()}")
        sys.exit(3)
    live(process, over_them, options)


def limit_forks(count: int) -> None:
    """The fork after the first `count` fails; those after that one don't."""
    fork, left = os.fork, [count]

    def limited() -> int:
        left[0] -= 1
        if left[0] == -1:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    os.fork = limited


def live(process: Process, over_them: supervisor.Supervisor, options: argparse.Namespace) -> None:
    """Tells what comes to it, until it is to end."""
    woken, wakes = socket.socketpair()
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno())
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, lambda *_: None)
    tell(f"{process} is {os.getpid()}")  # from here on it hears what it is told
    if str(process) != options.hangs:
        over_them.ready()
    lifeline, interrupts = over_them.lifeline, 0
    while True:
        readable = select.select([woken.fileno(), lifeline], [], [])[0]
        if lifeline in readable:
            tell(f"{process} is orphaned")
            return
        for number in woken.recv(64):
            tell(f"{process} got {signal.Signals(number).name}")
            interrupts += number == signal.SIGINT
            if interrupts == (options.interrupts if process.gateway else 1):
                return
            if number == signal.SIGTERM and process.gateway:
                sys.exit(options.ends_with)


def tell(what: str) -> None:
    os.write(1, f"{what}\n".encode())


if __name__ == "__main__":
    main()
