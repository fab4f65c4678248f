"""Another machine, as far as the network tells: a network namespace whose packets can vanish on the way. Takes root.

A server is put there by its listening socket: that belongs to the namespace for good, whoever accepts from it. So it
may run in the test's own loop or thread, or in a process that inherits the socket. Or the whole process is started
there: `ip netns exec NAME`.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CLONE_NEWNET = 0x40000000
NOBODY = "02:00:00:00:00:01"
"""A hardware address that nothing here has: what is sent to it is received by none, and nobody is told."""
_number = itertools.count(os.getpid() % 8192)


def has_namespaces() -> bool:
    """This user may make one."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        return False
    with suppress(subprocess.CalledProcessError), namespace():
        return True
    return False


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Cable:
    """Two ends: ours has the address `ours`; the one in the namespace has `address`."""

    def __init__(self, number: int, namespace: str) -> None:
        self._namespace = namespace
        self._links = f"wb{number}a", f"wb{number}b"
        net = f"198.18.{number // 64 % 256}.{number % 64 * 4}"  # RFC 2544: nobody's, for tests
        stem, _, last = net.rpartition(".")
        self.ours, self.address = f"{stem}.{int(last) + 1}", f"{stem}.{int(last) + 2}"

    def make(self) -> None:
        here, there = self._links
        _ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", self._namespace)
        _ip("addr", "add", f"{self.ours}/30", "dev", here)
        _ip("link", "set", here, "up")
        for what in (["addr", "add", f"{self.address}/30", "dev", there], ["link", "set", there, "up"]):
            _ip("-n", self._namespace, *what)

    def remove(self) -> None:
        with suppress(subprocess.CalledProcessError):
            _ip("link", "del", self._links[0])

    def black_hole(self) -> None:
        """From now on what is sent vanishes, both ways; nobody is told, as where a cable was cut."""
        here, there = self._links
        _ip("neigh", "replace", self.address, "lladdr", NOBODY, "nud", "permanent", "dev", here)
        _ip("-n", self._namespace, "neigh", "replace", self.ours, "lladdr", NOBODY, "nud", "permanent", "dev", there)

    def restore(self) -> None:
        """Packets arrive again, those too that are sent once more."""
        here, there = self._links
        _ip("neigh", "del", self.address, "dev", here)
        _ip("-n", self._namespace, "neigh", "del", self.ours, "dev", there)


class Namespace(Cable):
    """What `namespace` makes, at the end of its first cable: `address` is its own, reachable from here."""

    def __init__(self) -> None:
        number = next(_number)
        self.name = f"weighbridge-{number}"
        self._more: list[Cable] = []
        super().__init__(number, self.name)

    def make(self) -> None:
        _ip("netns", "add", self.name)
        _ip("-n", self.name, "link", "set", "lo", "up")
        super().make()

    def cable(self) -> Cable:
        """Another one: who is reached by its `ours` can be cut off alone."""
        self._more.append(Cable(next(_number), self.name))
        self._more[-1].make()
        return self._more[-1]

    def remove(self) -> None:
        for cable in self._more:
            cable.remove()
        super().remove()
        with suppress(subprocess.CalledProcessError):
            _ip("netns", "del", self.name)

    def listening(self, port: int = 0) -> socket.socket:
        """A listening socket at `address`."""
        made: list[socket.socket] = []

        def make() -> None:  # in a thread of its own, which stays in the namespace
            with Path(f"/run/netns/{self.name}").open() as file:
                if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            made.append(socket.create_server((self.address, port), backlog=512))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        return made[0]


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A network namespace, and a cable to it."""
    made = Namespace()
    try:
        made.make()
        yield made
    finally:
        made.remove()
