"""A disk that is watched: what a process asked of it, what it holds after a power loss, and when it is to fail.

The watching is done by disk.c, preloaded into the process. It writes down each call in order. Replayed to any point,
that is what the disk had been told by then, and what of it had been fsynced: the power may go off at every single call.
"""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512
"""Bytes that a disk writes whole or not at all."""
ENTRY = struct.Struct("IIQQ")


def compiled(folder: Path) -> Path:
    """The library that watches, made of disk.c in this folder."""
    library, source = folder / "disk.so", Path(__file__).with_name("disk.c")
    subprocess.run(
        ["gcc", "-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o", library, source, "-lpthread"], check=True
    )
    return library


class Disk:
    """A folder whose writers are watched: those that are started with `environment`."""

    def __init__(self, folder: Path, library: Path) -> None:
        self._library = library
        self.root = folder / "disk"
        self.root.mkdir()
        self._log, self._fault = folder / "calls", folder / "fault"
        self._log.touch()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(self._library),
            "DISK_ROOT": str(self.root.resolve()),
            "DISK_LOG": str(self._log),
            "DISK_FAULT": str(self._fault),
        }

    @property
    def now(self) -> int:
        """A point in time: how much had been asked of the disk by then."""
        return self._log.stat().st_size

    def fault(self, call: str, suffix: str, action: int | str, number: int = 1) -> None:
        """Lets a call to come fail, once: see disk.c. `action` is an errno, "before" or "after"."""
        waiting = self._fault.with_suffix(".new")
        waiting.write_text(f"{call} {suffix} {number} {action}")
        waiting.rename(self._fault)

    def faultless(self) -> None:
        """Takes back a fault that nothing has met."""
        self._fault.unlink(missing_ok=True)

    def calls(self) -> list[Call]:
        """All that was asked, in order."""
        return list(_calls(self._log.read_bytes(), str(self.root.resolve())))


@dataclass(frozen=True)
class Call:
    """One call, and the point in time just after it. `what` is the letter of disk.c; `path` is below the root.

    What was renamed was at `path`, and is at `to`.
    """

    what: str
    file: int
    offset: int
    data: bytes
    path: str
    at: int
    to: str = ""


def _calls(log: bytes, root: str) -> Iterator[Call]:
    at = 0
    while at + ENTRY.size <= len(log):
        what, length, file, offset = ENTRY.unpack_from(log, at)
        at += ENTRY.size
        data = log[at : at + length]
        at += length
        if at > len(log):
            return
        letter = chr(what)
        paths = [path[len(root) :] for path in data.decode().split("\0")] if letter in "cfumr" else [""]
        yield Call(letter, file, offset, data, paths[0], at, paths[-1])


@dataclass
class _File:
    """`seen` is what processes read; `durable` what was fsynced; `pending` may or may not be on the disk as well.

    What a failed fsync was to write is in neither: the kernel takes it for written, and never writes it again.
    """

    seen: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Call] = field(default_factory=list)


FOLDER = _File()


class Replay:
    """What a disk was told, up to a point that moves forward."""

    def __init__(self, calls: list[Call]) -> None:
        self._calls = iter(calls)
        self._next: Call | None = next(self._calls, None)
        self._files: dict[int, _File] = {}
        self._seen: dict[str, _File] = {}
        self._durable: dict[str, _File] = {}
        self._pending: list[dict[str, _File | None]] = []

    def forward(self, point: int) -> None:
        """Goes on to what had been asked at this point."""
        while self._next is not None and self._next.at <= point:
            self._apply(self._next)
            self._next = next(self._calls, None)

    def _apply(self, call: Call) -> None:
        if call.what == "c":
            self._files[call.file] = _File()
            self._enter({call.path: self._files[call.file]})
        elif call.what == "m":
            self._enter({call.path: FOLDER})
        elif call.what == "u":
            self._enter({call.path: None})
        elif call.what == "r":
            self._enter({call.to: self._seen[call.path], call.path: None})
        elif call.what == "f":
            self._settle_folder(call.path)
        elif call.what in "wt":
            file = self._files[call.file]
            _write(file.seen, call)
            file.pending.append(call)
        elif call.what == "s":
            file = self._files[call.file]
            for written in file.pending:
                _write(file.durable, written)
            file.pending.clear()
        elif call.what == "n":
            self._files[call.file].pending.clear()

    def _enter(self, entries: dict[str, _File | None]) -> None:
        """Entries of one folder that change together, or not at all: file systems keep a journal of those."""
        _set(self._seen, entries)
        self._pending.append(entries)

    def _settle_folder(self, folder: str) -> None:
        """The entries of a folder are durable once the folder itself was fsynced."""
        for entries in self._pending:
            if _folder_of(entries) == folder:
                _set(self._durable, entries)
        self._pending = [entries for entries in self._pending if _folder_of(entries) != folder]

    def seen(self) -> dict[str, bytes]:
        """The files as a process reads them, by their path below the root."""
        return {path: bytes(file.seen) for path, file in self._seen.items() if file is not FOLDER}

    def after_power_loss(self, chance: random.Random | None = None) -> dict[str, bytes | None]:
        """What is on the disk, by path below the root; None is a folder.

        Without `chance`, what had been fsynced and nothing else. With it, also some of the rest: each sector that was
        written, each change of a length and each entry of a folder may have reached the disk, or not.
        """
        share = chance.choice((0.1, 0.5, 0.9)) if chance else 0
        entries = dict(self._durable)
        for changed in self._pending:
            if chance and chance.random() < share:
                _set(entries, changed)
        found: dict[str, bytes | None] = {}
        for path, file in sorted(entries.items()):
            above = path.rpartition("/")[0]
            if not path.endswith("-shm") and (not above or above in found):
                found[path] = None if file is FOLDER else _content(file, chance, share)
        return found


def _set(entries: dict[str, _File], changed: dict[str, _File | None]) -> None:
    for path, file in changed.items():
        if file is None:
            entries.pop(path, None)
        else:
            entries[path] = file


def _folder_of(entries: dict[str, _File | None]) -> str:
    return next(iter(entries)).rpartition("/")[0]


def _write(content: bytearray, call: Call) -> None:
    if call.what == "t":
        del content[call.offset :]
        content.extend(bytes(call.offset - len(content)))
    else:
        content.extend(bytes(max(call.offset + len(call.data) - len(content), 0)))
        content[call.offset : call.offset + len(call.data)] = call.data


def _content(file: _File, chance: random.Random | None, share: float) -> bytes:
    content = bytearray(file.durable)
    if chance:
        for call in file.pending:
            for sector in _sectors(call):
                if chance.random() < share:
                    _write(content, sector)
    return bytes(content)


def _sectors(call: Call) -> Iterator[Call]:
    if call.what == "t":
        yield call
    at, end = call.offset, call.offset + len(call.data)
    while at < end:
        to = min((at // SECTOR + 1) * SECTOR, end)
        yield Call("w", call.file, at, call.data[at - call.offset : to - call.offset], "", call.at)
        at = to


def lay_out(content: dict[str, bytes | None], folder: Path) -> None:
    """Puts what a disk holds into a folder."""
    folder.mkdir()
    for path, data in content.items():
        if data is None:
            (folder / path[1:]).mkdir(mode=0o700)
        else:
            (folder / path[1:]).touch(0o600)
            (folder / path[1:]).write_bytes(data)
