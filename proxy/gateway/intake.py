"""Request bodies taken in whole: into memory while there is room, to an unlinked file beyond it, never past a limit.

A slow sender holds no upstream: nothing goes up before the body is complete. How long a sender may be silent is the
connection's business: `receive` raises (gateway/cycle.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import errno
import mmap
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from proxy.errors import CallerErred, ProxyRefused, Reason
from proxy.gateway import heads
from proxy.gemini.calls import Call
from proxy.gemini.headers import Headers
from proxy.tenants.keys import Tenant

T = TypeVar("T")
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
"""ASGI's."""

MEMORY_BYTES = 256 << 20
SPOOL_BYTES = 4 << 30
MAPPED_FROM = 4 << 20
"""Bytes from which on a body that announces its length gets memory of its own from the kernel."""
SPOOLED_PIECE = 256 * 1024
"""Bytes that go to or come from a spool file in one thread hop."""
DISK_KEPT_FREE = 512 << 20
"""Bytes of the disk that spooling leaves to others: the ledger may lie on it, too, and needs 64 MiB at a time."""


class ClientGone(Exception):
    """The client left before its request was complete. Nobody is there to be answered."""


class Pool:
    """Bytes that all bodies may take together. One project gets at most half: none can take the others' room."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.taken = 0
        self._by_project: dict[str, int] = {}

    def reserve(self, project: str, size: int) -> bool:
        """Takes `size` bytes for the project, or none and says so."""
        mine = self._by_project.get(project, 0) + size
        if self.taken + size > self.capacity or mine > self.capacity // 2:
            return False
        self.taken += size
        self._by_project[project] = mine
        return True

    def release(self, project: str, size: int) -> None:
        """Gives back what was reserved."""
        if size:
            self.taken -= size
            self._by_project[project] -= size
            if not self._by_project[project]:
                del self._by_project[project]


class SpoolFile:
    """An unlinked file: gone with its last reference, which a thread may hold longer than the call that made it.

    So there is no close(): a descriptor closed under a running write could be another body's by then.
    """

    def __init__(self, directory: Path, keep_free: int) -> None:
        """`keep_free` is in bytes of the disk. Raises OSError."""
        self._keep_free = keep_free
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._fd, name = tempfile.mkstemp(dir=directory)
        Path(name).unlink()

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        """Appends. Raises OSError; ProxyRefused, with nothing written, where the disk would be too full after it."""
        disk = os.statvfs(self._fd)
        if disk.f_bavail * disk.f_frsize - len(piece) < self._keep_free:
            raise _no_room()
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def read(self, start: int) -> bytes:
        """The piece that starts there. Raises OSError."""
        piece = os.pread(self._fd, SPOOLED_PIECE, start)
        if not piece:
            raise OSError(errno.EIO, "the file is shorter than what was written to it")
        return piece

    def view(self) -> mmap.mmap:
        """The whole file. It holds a descriptor of its own."""
        return mmap.mmap(self._fd, 0, access=mmap.ACCESS_READ)

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            os.close(self._fd)


class Body:
    """A request body, complete once `Intake` gives it out. The end of a `with`, or `close`, gives back its room."""

    def __init__(
        self, project: str, memory: Pool, spool: Pool, make_file: Callable[[], SpoolFile], announced: int = 0
    ) -> None:
        """`announced` is its content-length, 0 where it has none."""
        self.length = 0
        self._project = project
        self._memory = memory
        self._spool = spool
        self._make_file = make_file
        self._announced = announced
        self._data: bytes | bytearray | mmap.mmap = b""  # of a spooled body, what isn't written yet
        self._file: SpoolFile | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def spooled(self) -> bool:
        """It lies in a file: looking at it may wait for the disk."""
        return self._file is not None

    def view(self) -> bytes | bytearray | mmap.mmap:
        """The whole body, to be looked at; neither to be changed nor to be kept: a file takes memory while it is."""
        return self._data if self._file is None else self._file.view()

    @property
    def content(self) -> bytes | bytearray | mmap.mmap | AsyncIterator[bytes]:
        """What a transport sends. Whoever asks again gets a fresh iterator, so a body can be sent again."""
        return self._data if self._file is None else _read(self._file, self.length)

    async def add(self, piece: bytes) -> None:
        """Appends a piece; a first one is kept as it is, without a copy. Raises ProxyRefused."""
        if self._file is None and not self._memory.reserve(self._project, len(piece)):
            self._file = await self._move_to_file()
        if self._file is not None:
            self._reserve_spool(len(piece))
        self._append(piece)
        self.length += len(piece)
        if self._file is not None and len(self._data) >= SPOOLED_PIECE:
            await self.flush()

    def _append(self, piece: bytes) -> None:
        if self._file is None and not self.length:
            self._data = piece
            return
        if isinstance(self._data, bytes):
            self._data = _room(self._data, self._announced)
        if isinstance(self._data, mmap.mmap):
            self._data.write(piece)
        else:
            self._data += piece

    async def _move_to_file(self) -> SpoolFile:
        self._reserve_spool(self.length)
        try:
            file = await _on_disk(self._make_file)
            await _on_disk(partial(file.write, memoryview(self._data)[: self.length]))
        except BaseException:
            self._spool.release(self._project, self.length)
            raise
        self._memory.release(self._project, self.length)
        self._data = bytearray()
        return file

    def _reserve_spool(self, size: int) -> None:
        if not self._spool.reserve(self._project, size):
            raise _no_room()

    async def flush(self) -> None:
        """Writes what of a spooled body isn't written yet. Raises ProxyRefused."""
        if self._file is not None and self._data:
            data, self._data = memoryview(self._data), bytearray()
            await _on_disk(partial(self._file.write, data))

    def close(self) -> None:
        """Gives back memory or disk. May be called as soon as the body has gone up, and again."""
        pool = self._memory if self._file is None else self._spool
        pool.release(self._project, self.length)
        self.length = 0
        self._data = b""
        self._file = None


class Intake:
    """Where all bodies of a worker are taken in."""

    def __init__(
        self,
        directory: Path,
        *,
        limit: int,
        memory_bytes: int = MEMORY_BYTES,
        spool_bytes: int = SPOOL_BYTES,
        disk_kept_free: int = DISK_KEPT_FREE,
    ) -> None:
        """`directory` is made when the first body is spooled. `limit` is a body's, in bytes."""
        self.memory = Pool(memory_bytes)
        self.spool = Pool(spool_bytes)
        self._make_file = partial(SpoolFile, directory, disk_kept_free)
        self._limit = limit

    def limited_to(self, limit: int) -> Intake:
        """Another one for bodies of up to `limit` bytes, in the same room."""
        other = copy.copy(self)
        other._limit = limit
        return other

    async def take_in(self, call: Call, tenant: Tenant, headers: Headers, receive: Receive) -> Body:
        """The body of a call: `with await intake.take_in(…) as body`. Raises what `take` does."""
        declared = declared_length(headers)
        if call.operation.body:
            return await self.take(receive, tenant.project, declared)
        if declared == 0:
            return self.room(tenant.project)
        raise CallerErred(Reason.BAD_REQUEST, f"{call.operation.name} takes no request body. Send none.")

    def room(self, project: str, length: int = 0) -> Body:
        """An empty body, for what is made here; `length` bytes long where that is known. The caller closes it."""
        return Body(project, self.memory, self.spool, self._make_file, length)

    async def take(self, receive: Receive, project: str, declared: int | None) -> Body:
        """Waits for the whole body; the caller closes it. `declared` is its content-length, None where it has none.

        Raises CallerErred REQUEST_TOO_LARGE, before a byte is read where that is known; ProxyRefused STORE_UNAVAILABLE
        where there is no room; ClientGone; and what `receive` does.
        """
        if declared is not None and declared > self._limit:
            raise self._too_large()
        body = self.room(project, declared or 0)
        try:
            await self._fill(body, receive)
        except BaseException:
            body.close()
            raise
        return body

    async def _fill(self, body: Body, receive: Receive) -> None:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            more = message.get("more_body", False)
            if piece := message.get("body", b""):
                if body.length + len(piece) > self._limit:
                    raise self._too_large()
                await body.add(piece)
        await body.flush()

    def _too_large(self) -> CallerErred:
        return CallerErred(
            Reason.REQUEST_TOO_LARGE,
            f"The request's body is larger than this server takes, which is {self._limit} bytes. Send less.",
        )


def _room(begun: bytes, announced: int) -> bytearray | mmap.mmap:
    """Where more is put to what has come. A mapping takes no memory for what hasn't, and gives all back at once.

    A bytearray is moved again and again as it grows, and leaves gaps. In pages of 2 MB, where the kernel has them,
    memory costs a quarter of what it does else. Raises ProxyRefused.
    """
    if announced < MAPPED_FROM:
        return bytearray(begun)
    try:
        room = mmap.mmap(-1, announced, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise _no_room() from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            room.madvise(mmap.MADV_HUGEPAGE)
    room.write(begun)
    return room


def _no_room() -> ProxyRefused:
    return ProxyRefused(
        Reason.STORE_UNAVAILABLE,
        "This server has no room for your request's body now, with all those that it is serving. "
        "Send it again in a moment.",
    )


def declared_length(headers: Headers) -> int | None:
    """The request's content-length, 0 where it has no body, None where it comes in chunks."""
    field = heads.framing(headers)
    if field is None:
        return 0
    name, value = field
    return int(value) if name == b"content-length" else None


async def _read(file: SpoolFile, length: int) -> AsyncIterator[bytes]:
    start = 0
    while start < length:
        piece = await _on_disk(partial(file.read, start))
        yield piece
        start += len(piece)


async def _on_disk(do: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(do)
    except OSError as error:
        raise ProxyRefused(
            Reason.STORE_UNAVAILABLE,
            f"This server's disk doesn't take your request's body ({error.strerror}). "
            "Send the request again later; whoever runs the server must look at its disk.",
        ) from error
